//! Benchmark of the faults of shipped stand-ins, as trials inject them: the time until each fault is active, and the filled part of a disk.
//! All figures come from the records of the trials.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{Report, events, kinds, measure, ms_of};

/// Backend with the names and promised values of its report rows. The rows concern a partition, a latency, a kill, a filled disk, and
/// faults without a measured effect.
struct Place {
    words: &'static [&'static str],
    partition: (&'static str, f64),
    latency: (&'static str, f64),
    kill: (&'static str, Option<f64>),
    disk: &'static str,
    unfelt: &'static str,
}

const PLACES: [Place; 2] = [
    Place {
        words: &["--backend", "local"],
        partition: ("faults, local: a partition until in force", 10.0),
        latency: ("faults, local: a latency until in force", 10.0),
        kill: ("faults, local: a kill", None),
        disk: "faults, local: disk, 80 % asked, off by",
        unfelt: "faults, local: injected and not felt",
    },
    Place {
        words: &["--backend", "docker", "--standin"],
        partition: ("faults, docker: a partition until in force", 25.0),
        latency: ("faults, docker: a latency until in force", 25.0),
        kill: ("faults, docker: a kill", Some(120.0)),
        disk: "faults, docker: disk, 80 % asked, off by",
        unfelt: "faults, docker: injected and not felt",
    },
];

/// Runs one trial per backend. Each trial repeats a partition, a latency and a kill `runs * 6` times each, and a filled disk `runs` times.
pub fn faults(report: &mut Report, store: &Path, runs: usize) {
    let folder = store.join("faults");
    let (file, times) = (folder.join("faults.yaml"), runs * 6);
    let text = format!(
        "name: faults\ncluster: clusters/tikv.yaml\ngoal: nothing\n\
         timing: {{ steady_for: 0s, detect_within: 10m, repair_within: 10m, stable_for: 1s }}\n\
         limits: {{ wall: {}s }}\n\
         chaos:\n\
         \x20 cut: {{ repeat: {{ times: {times}, every: 2s }}, inject: {{ network_partition: {{ isolate: pd3 }} }}, heal: 700ms }}\n\
         \x20 late: {{ at: 500ms, repeat: {{ times: {times}, every: 2s }}, inject: {{ latency: {{ from: tikv1, to: tikv3, delay: 20ms }} }}, heal: 700ms }}\n\
         \x20 kill: {{ at: 1s, repeat: {{ times: {times}, every: 2s }}, inject: {{ node_kill: {{ target: tikv2 }} }}, heal: 500ms }}\n\
         \x20 full: {{ at: 1500ms, repeat: {{ times: {runs}, every: 12s }}, inject: {{ disk_pressure: {{ target: tikv1, percent: 80 }} }}, heal: 2s }}\n",
        60 + times * 3
    );
    let clusters = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/clusters");
    let made = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, text));
    let made = made.and_then(|()| std::os::unix::fs::symlink(clusters, folder.join("clusters")));
    for place in PLACES {
        let scenario = file.display().to_string();
        let words = [&["run", &scenario, "--variant", "noop", "--message-format", "json"][..], place.words].concat();
        let events = if made.is_ok() { events(&measure(&words, Some(store)).stdout) } else { Vec::new() };
        let took = |id: &str| {
            kinds(&events, "fault_injected").filter(|kind| kind["id"] == id).filter_map(|kind| ms_of(&kind["took_us"])).collect()
        };
        let felt: Vec<&Value> = kinds(&events, "fault_evidence").filter(|kind| kind["step"] == "felt").collect();
        report.add(place.partition.0, "ms", place.partition.1, took("cut"));
        report.add(place.latency.0, "ms", place.latency.1, took("late"));
        report.add(place.kill.0, "ms", place.kill.1, took("kill"));
        let used = felt.iter().filter(|kind| kind["id"] == "full").filter_map(|kind| kind["numbers"]["used_percent"].as_f64());
        report.add(place.disk, "pp", 1.0, used.map(|used| (used - 80.0).abs()).collect());
        #[expect(clippy::cast_precision_loss, reason = "some dozens")]
        let unfelt = felt.iter().filter(|kind| kind["ok"] == false).count() as f64;
        report.add(place.unfelt, "", 0.0, if felt.is_empty() { Vec::new() } else { vec![unfelt] });
    }
}
