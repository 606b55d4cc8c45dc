//! Observation of a cluster on the `local` backend without a trial: probes, `let`s, `select`s and invariants of the cluster file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chaosrun_backend_local::LocalCluster;
use chaosrun_cluster::Cluster;
use chaosrun_expr::topology::{AddressView, node_context};
use chaosrun_expr::{Context, Value};
use chaosrun_monitor::invariant;
use chaosrun_monitor::invariant::InvariantResult;
use chaosrun_monitor::observe::{ObserverConfig, ProbeRunner, ProbeSnapshot};
use chaosrun_probe::HttpClient;
use chaosrun_scenario as scenario;
use chaosrun_scenario::{Overrides, model};

use crate::local::Run;

pub struct Watched {
    pub spec: Arc<model::ClusterSpec>,
    pub cluster: Arc<LocalCluster>,
    pub snapshot: ProbeSnapshot,
    observer: ProbeRunner,
    run: Run,
}

impl Watched {
    /// Creates the cluster of a scenario in this repository, without starting it.
    pub fn new(scenario: &str, set: &[&str]) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(scenario);
        let overrides = Overrides { set: set.iter().map(|set| (*set).to_owned()).collect(), ..Overrides::default() };
        let loaded = scenario::load(&file, &overrides).unwrap_or_else(|problems| panic!("{problems:?}"));
        let spec = Arc::clone(&loaded.cells[0].subjects[0].cluster);
        let run = Run::new();
        let cluster = Arc::new(run.cluster("t-1", &spec));
        let config = ObserverConfig {
            spec: Arc::clone(&spec),
            cluster: Arc::clone(&cluster) as Arc<dyn Cluster>,
            workload: None,
            seed: 1,
            http: HttpClient::new(),
        };
        Self { spec, cluster, snapshot: ProbeSnapshot::default(), observer: ProbeRunner::new(config), run }
    }

    pub async fn up(&self) {
        if let Err(error) = self.cluster.up().await {
            panic!("{error}");
        }
    }

    /// Runs all due probes once and evaluates the invariants. Returns the results of all items by invariant, and the expression context
    /// with `let` variables.
    pub async fn look(&mut self) -> (BTreeMap<String, Vec<InvariantResult>>, Context) {
        self.observer.start_due(Instant::now());
        while !self.observer.is_idle() {
            let completed = self.observer.next().await;
            self.observer.complete(completed);
        }
        self.snapshot = self.observer.snapshot();
        let topology = self.cluster.topology();
        let base = node_context(topology, None, AddressView::Advertised, self.spec.clock_scale, 1);
        let (judged, context) = invariant::evaluate(&self.spec, topology, self.snapshot.context(base));
        let mut by_name: BTreeMap<String, Vec<InvariantResult>> = BTreeMap::new();
        for one in judged {
            let (name, _) = self.spec.invariants.get_index(one.invariant).expect("an invariant");
            by_name.entry(name.clone()).or_default().push(one.judgement);
        }
        (by_name, context)
    }

    /// Returns the value of a `select` of the cluster file. Returns `None` if the value is unknown.
    pub fn selected(&self, name: &str, context: &Context) -> Option<Value> {
        self.spec.select[name].eval(context).ok()
    }

    pub async fn down(self) {
        self.cluster.down().await.unwrap();
        self.run.client.close().await;
    }
}

/// Returns true if the invariant holds for every item.
pub fn holds(judged: &[InvariantResult]) -> bool {
    judged.iter().all(|one| matches!(one, InvariantResult::Holds))
}
