//! Benchmark of containers: the backend is compared with the `docker` command, which starts and removes the same containers.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Report, events, kinds, measure, phase, seconds};

/// Number of nodes in the TiKV cluster. Each node is two containers.
const NODES: usize = 6;
const NETWORK: &str = "bench-of-containers";

/// Runs trials in containers, and alternately the same containers by the `docker` command. Other load on the machine then affects both
/// measurements.
pub fn containers(report: &mut Report, store: &Path, runs: usize) {
    let mut figures: [Vec<f64>; 6] = Default::default();
    // The first trial makes the images.
    trial(store, 0);
    for seed in 1..=runs {
        let (Some([ready, detect, down]), Some([by_hand, removed])) = (trial(store, seed), by_hand()) else { continue };
        for (figure, value) in figures.iter_mut().zip([ready, by_hand, ready / by_hand, detect * 1e3, down, removed]) {
            figure.push(value);
        }
    }
    let [ready, by_hand, ratio, detect, down, removed] = figures;
    report.add("docker: cluster ready, 12 containers", "s", None, ready);
    report.add("docker:   started by the stock client", "s", None, by_hand);
    report.add("docker:   ratio", "x", 1.3, ratio);
    report.add("docker: death to first ticket", "ms", 500.0, detect);
    report.add("docker: teardown, 14 containers", "s", 3.0, down);
    report.add("docker:   12 by the stock client", "s", None, removed);
}

/// Runs one trial. Returns the times of start, detection and teardown in seconds.
fn trial(store: &Path, seed: usize) -> Option<[f64; 3]> {
    let seed = seed.to_string();
    let short = ["--variant", "noop", "--set", "timing.repair_within=200ms", "--seed", &seed, "--message-format", "json"];
    let arguments = [&["run", "scenarios/node_kill.yaml", "--backend", "docker", "--standin"][..], &short].concat();
    let events = events(&measure(&arguments, Some(store)).stdout);
    let end = kinds(&events, "trial_finished").next()?;
    Some([phase(&events, "up")?, seconds(&end["detect_us"])?, phase(&events, "down")?])
}

/// Starts and removes the same containers by the `docker` command, in parallel where possible. Returns both times in seconds. The start
/// counts as finished even if the programs in the containers are not ready.
fn by_hand() -> Option<[f64; 2]> {
    let (holder, server) = (image("chaosrun/holder")?, image("chaosrun/server")?);
    let all: Vec<String> = (0..NODES).flat_map(|node| [format!("bench-{node}-net"), format!("bench-{node}")]).collect();
    let began = Instant::now();
    docker(&["network", "create", "--internal", NETWORK])?;
    let started: Vec<Option<()>> = std::thread::scope(|scope| {
        let start = |node: usize| {
            let (net, workload) = (all[2 * node].clone(), all[2 * node + 1].clone());
            let (holder, server) = (&holder, &server);
            scope.spawn(move || {
                docker(&["run", "-di", "--name", &net, "--network", NETWORK, "--cap-add", "NET_ADMIN", holder])?;
                let joined = format!("container:{net}");
                docker(&["run", "-d", "--name", &workload, "--network", &joined, "--entrypoint", "sleep", server, "600"])
            })
        };
        let threads: Vec<_> = (0..NODES).map(start).collect();
        threads.into_iter().map(|thread| thread.join().ok().flatten()).collect()
    });
    let up = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    docker(&[&["rm", "-f"][..], &names].concat())?;
    docker(&["network", "rm", NETWORK])?;
    let removed = began.elapsed().as_secs_f64();
    started.into_iter().collect::<Option<Vec<()>>>().map(|_| [up, removed])
}

/// Returns the id of the newest image called `name`.
fn image(name: &str) -> Option<String> {
    let output = Command::new("docker").args(["images", "--format", "{{.Repository}}:{{.Tag}}", name]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

fn docker(words: &[&str]) -> Option<()> {
    let status = Command::new("docker").args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success()).then_some(())
}
