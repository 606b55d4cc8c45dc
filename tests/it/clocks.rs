//! Tests of the clocks of nodes, as real programs read them.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use chaosrun_cluster::fault_control::{FaultControl, NodeClock};
use chaosrun_cluster::{Cluster, ExecRequest};
use chaosrun_event::Actor;
use tokio::io::AsyncReadExt;

use crate::local::{Run, node, pid, spec, until};
use crate::require;

/// One hour, in microseconds.
const HOUR: i64 = 3_600_000_000;

/// Compiles the test program `programs/clocks.c`. Returns `None` if there is no compiler.
fn program(dir: &tempfile::TempDir) -> Option<PathBuf> {
    let compiler = require::program("cc")?;
    let path = dir.path().join("clocks");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/programs/clocks.c");
    let status = Command::new(compiler).args(["-O1", "-pthread", "-o"]).arg(&path).arg(source).status().unwrap();
    assert!(status.success());
    Some(path)
}

#[tokio::test]
async fn a_node_s_clock_is_changed_while_it_runs_and_stays_so_when_it_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = program(&dir) else { return };
    let run = Run::new();
    let mut watching = node("n1", &[program.to_str().unwrap(), "watch"]);
    watching.clock = true;
    let cluster = run.cluster("t-1", &spec(vec![watching, node("n2", &["sleep", "1000"])], &[]));
    cluster.up().await.unwrap();
    assert_eq!(cluster.clock("n1").await.unwrap().offset_us, 0);
    assert_eq!(cluster.set_clock("n2", None).await.unwrap_err().to_string(), "node `n2` was started without a clock of its own");

    for offset_us in [HOUR, -HOUR] {
        cluster.set_clock("n1", Some(NodeClock { offset_us, rate: 1.0 })).await.unwrap();
        let began = Instant::now();
        loop {
            let reading = cluster.clock("n1").await.unwrap();
            assert_eq!(reading.offset_us, offset_us);
            if reading.reads > 100 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{reading:?}");
        }
    }

    // Faster and slower: from the moment at which the clock was set.
    for rate in [3.0, 0.25] {
        let before = Instant::now();
        cluster.set_clock("n1", Some(NodeClock { offset_us: 0, rate })).await.unwrap();
        let set = Instant::now();
        cluster.restart("n1", Duration::from_secs(5), Actor::Fault).await.unwrap();
        until("it is felt", || set.elapsed() > Duration::from_millis(200)).await;
        let least = set.elapsed();
        let offset_us = cluster.clock("n1").await.unwrap().offset_us;
        let gained = |elapsed: Duration| (rate - 1.0) * elapsed.as_secs_f64() * 1e6;
        let (one, other) = (gained(least), gained(before.elapsed()));
        // A change begins 2 ms after it was set; the rest is the error of the measurement itself.
        let slack = 10_000.0;
        let range = one.min(other) - slack..=one.max(other) + slack;
        let offset_us = f64::from(i32::try_from(offset_us).unwrap());
        assert!(range.contains(&offset_us), "{offset_us}, expected {range:?}");
    }
    let starts = |wanted| cluster.status()[0].starts == wanted;
    assert!(starts(3));
    cluster.set_clock("n1", None).await.unwrap();
    assert_eq!(cluster.clock("n1").await.unwrap().offset_us, 0);
    // The program ends itself if a monotonic clock goes back.
    for rate in [50.0, 0.02, 1.0, 7.0, 0.5, 1.0] {
        cluster.set_clock("n1", Some(NodeClock { offset_us: 0, rate })).await.unwrap();
        while cluster.clock("n1").await.unwrap().reads < 200 {
            assert!(cluster.status()[0].pid.is_some(), "a clock went back at {rate}: {:?}", cluster.status());
        }
    }

    let own = format!("/proc/{}/environ", pid(&cluster, "n1"));
    let seen = String::from_utf8_lossy(&std::fs::read(own).unwrap()).to_lowercase();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", pid(&cluster, "n1"))).unwrap();
    assert!(maps.contains("libtz.so"));
    for word in ["chaos", "skew", "fake"] {
        assert!(!seen.contains(word) && !maps.contains(word), "{word}: {seen} {maps}");
    }
    cluster.down().await.unwrap();
    until("nothing is left", || !dir_of(&cluster).exists()).await;
    run.client.close().await;
}

fn dir_of(cluster: &chaosrun_backend_local::LocalCluster) -> PathBuf {
    cluster.topology().nodes[0].dir.clone()
}

#[tokio::test]
async fn waits_follow_the_program_s_own_clock() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = program(&dir) else { return };
    let run = Run::new();
    let mut idle = node("n1", &["sleep", "1000"]);
    idle.clock = true;
    let cluster = run.cluster("t-1", &spec(vec![idle], &[]));
    cluster.up().await.unwrap();
    // Clocks since boot get minutes ahead.
    cluster.set_clock("n1", Some(NodeClock { offset_us: 0, rate: 1000.0 })).await.unwrap();
    while cluster.clock("n1").await.unwrap().offset_us < 120_000_000 {}
    for offset_us in [HOUR, -HOUR] {
        cluster.set_clock("n1", Some(NodeClock { offset_us, rate: 1.0 })).await.unwrap();
        let exec = ExecRequest { command: vec![program.to_str().unwrap().into(), "wait".into()], ..ExecRequest::default() };
        let mut running = cluster.exec("n1", exec).await.unwrap();
        let mut told = String::new();
        let read = running.stdout.read_to_string(&mut told);
        tokio::time::timeout(Duration::from_secs(30), read).await.expect("all waits end").unwrap();
        let waits: Vec<(&str, u64)> =
            told.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, ms)| (name, ms.parse().unwrap())).collect();
        assert_eq!(waits.len(), 9, "{told}");
        assert!(waits.iter().all(|(_, ms)| (99..5000).contains(ms)), "{told}");
    }
    cluster.down().await.unwrap();
    run.client.close().await;
}

#[tokio::test]
async fn programs_that_read_the_clock_by_system_call_are_refused_by_name() {
    let Some(etcd) = require::program("etcd") else { return };
    let run = Run::new();
    let mut go = node("n1", &[etcd.to_str().unwrap()]);
    go.clock = true;
    let refused = run.try_cluster("t-1", &spec(vec![go], &[])).unwrap_err().to_string();
    let why = format!("the clock of `{}` cannot be changed: it is a Go program", etcd.display());
    assert!(refused.contains(&why), "{refused}");
    run.client.close().await;
}
