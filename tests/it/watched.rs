//! A cluster file's own eyes on nodes of the `local` backend: its probes, `let`s, `select`s and invariants, without a trial.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chaosrun::cluster::Cluster;
use chaosrun::cluster::local::LocalCluster;
use chaosrun::expr::topology::{View, node_context};
use chaosrun::expr::{Context, Value};
use chaosrun::invariant::{self, Judgement};
use chaosrun::observe::{HttpClient, Observer, ObserverConfig, Snapshot};
use chaosrun::scenario::{self, Overrides, model};

use crate::local::Run;

pub struct Watched {
    pub spec: Arc<model::Cluster>,
    pub cluster: Arc<LocalCluster>,
    pub snapshot: Snapshot,
    observer: Observer,
    run: Run,
}

impl Watched {
    /// The cluster of a scenario of this repository, not started yet.
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
        Self { spec, cluster, snapshot: Snapshot::default(), observer: Observer::new(config), run }
    }

    pub async fn up(&self) {
        if let Err(error) = self.cluster.up().await {
            panic!("{error}");
        }
    }

    /// Asks all that is due once, and judges: `Holds`, `Broken` or `Unknown` by invariant, the worst of its items last; and
    /// what expressions see, `let`s included.
    pub async fn look(&mut self) -> (BTreeMap<String, Vec<Judgement>>, Context) {
        self.observer.start_due(Instant::now());
        while !self.observer.is_idle() {
            let completed = self.observer.next().await;
            self.observer.complete(completed);
        }
        self.snapshot = self.observer.snapshot();
        let topology = self.cluster.topology();
        let base = node_context(topology, None, View::Advertised, self.spec.clock_scale, 1);
        let (judged, context) = invariant::evaluate(&self.spec, topology, self.snapshot.context(base));
        let mut by_name: BTreeMap<String, Vec<Judgement>> = BTreeMap::new();
        for one in judged {
            let (name, _) = self.spec.invariants.get_index(one.invariant).expect("an invariant");
            by_name.entry(name.clone()).or_default().push(one.judgement);
        }
        (by_name, context)
    }

    /// What a `select` of the file gives.
    pub fn selected(&self, name: &str, context: &Context) -> Option<Value> {
        self.spec.select[name].eval(context).ok()
    }

    pub async fn down(self) {
        self.cluster.down().await.unwrap();
        self.run.client.close().await;
    }
}

/// Whether every item of it holds.
pub fn holds(judged: &[Judgement]) -> bool {
    judged.iter().all(|one| matches!(one, Judgement::Holds))
}
