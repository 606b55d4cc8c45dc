//! `promql:` probes against a real Prometheus.

use std::time::{Duration, Instant};

use chaosrun::cluster::Cluster;
use chaosrun::event::Actor;

use crate::require;
use crate::watched::{Watched, holds};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_is_understood() {
    if require::program("prometheus").is_none() {
        return;
    }
    let mut watched = Watched::new("tests/it/fixtures/prometheus/prometheus.yaml", &[]);
    watched.up().await;
    let began = Instant::now();
    loop {
        // It begins with nothing scraped; the limit is only there to end a broken test.
        let (judged, _) = watched.look().await;
        let broken: Vec<_> = judged.iter().filter(|(_, judged)| !holds(judged)).collect();
        if broken.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{broken:?}\n{:?}", watched.snapshot.value());
    }

    // One that stands still answers nothing, and the probe says so in its time.
    watched.cluster.pause("prometheus", Actor::Fault).await.unwrap();
    let began = Instant::now();
    loop {
        watched.look().await;
        // A thread of it may have been quicker than the signal.
        if watched.snapshot.states.iter().all(|state| !state.ok) || began.elapsed() > Duration::from_secs(30) {
            break;
        }
    }
    for state in &watched.snapshot.states {
        assert_eq!((state.ok, state.problem.as_deref()), (false, Some("no answer in 1000 ms")), "{}", state.probe);
    }
    watched.down().await;
}
