//! `promql:` probes against a real Prometheus.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaosrun::cluster::Cluster;
use chaosrun::event::Actor;
use chaosrun::expr::topology::{View, node_context};
use chaosrun::observe::{HttpClient, Observer, ObserverConfig, Snapshot};
use chaosrun::scenario::{self, Overrides};

use crate::local::Run;
use crate::require;

/// All probes once.
async fn look(observer: &mut Observer) -> Snapshot {
    observer.start_due(Instant::now());
    while !observer.is_idle() {
        let completed = observer.next().await;
        observer.complete(completed);
    }
    observer.snapshot()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_is_understood() {
    if require::program("prometheus").is_none() {
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/prometheus/prometheus.yaml");
    let loaded = scenario::load(&file, &Overrides::default()).unwrap();
    let spec = Arc::clone(&loaded.cells[0].subjects[0].cluster);
    let run = Run::new();
    let cluster = Arc::new(run.cluster("t-1", &spec));
    if let Err(error) = cluster.up().await {
        panic!("{error}");
    }
    let config = ObserverConfig {
        spec: Arc::clone(&spec),
        cluster: Arc::clone(&cluster) as Arc<dyn Cluster>,
        workload: None,
        seed: 1,
        http: HttpClient::new(),
    };
    let mut observer = Observer::new(config);
    let base = node_context(cluster.topology(), None, View::Advertised, None, 1);
    let began = Instant::now();
    loop {
        let snapshot = look(&mut observer).await;
        let broken = spec.invariants.values().filter_map(|invariant| {
            let context = snapshot.context(base.clone());
            let Some(each) = &invariant.each else { return invariant.expect.condition(&context).err().map(|why| (invariant, why.reason)) };
            let items: Vec<_> = each.eval(&context).ok()?.try_iter().ok()?.collect();
            items.into_iter().find_map(|item| {
                let mut context = context.clone();
                context.set("item", item);
                match invariant.expect.condition(&context) {
                    Ok(true) => None,
                    Ok(false) => Some((invariant, "false".to_owned())),
                    Err(why) => Some((invariant, why.reason)),
                }
            })
        });
        let broken: Vec<String> = broken.map(|(invariant, why)| format!("{}: {why}", invariant.name)).collect();
        if broken.is_empty() {
            break;
        }
        // It begins with nothing scraped; the limit is only there to end a broken test.
        assert!(began.elapsed() < Duration::from_secs(30), "{broken:?}\n{:?}", snapshot.value());
    }

    // One that stands still answers nothing, and the probe says so in its time.
    cluster.pause("prometheus", Actor::Fault).await.unwrap();
    let snapshot = look(&mut observer).await;
    for state in snapshot.states {
        assert_eq!((state.ok, state.problem.as_deref()), (false, Some("no answer in 1000 ms")), "{}", state.probe);
    }
    cluster.down().await.unwrap();
    run.client.close().await;
}
