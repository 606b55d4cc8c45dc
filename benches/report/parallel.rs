//! Benchmark of eight parallel trials on this machine. Their duration is compared with the minimum, and their verdicts with those of
//! sequential trials.
#![expect(clippy::cast_precision_loss, reason = "a few cores and trials")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{Report, events, measure, say};

const SCENARIOS: [&str; 2] = ["scenarios/node_kill.yaml", "scenarios/node_pause.yaml"];
const VARIANTS: &str = "noop,playbook,oracle";
const JOBS: usize = 8;
/// Number of clock ticks per second in `/proc/stat`.
const TICKS: f64 = 100.0;

/// Measured run of the plan.
struct Run {
    /// Duration of the run in seconds.
    wall: f64,
    /// Total CPU time of all programs on all processors during the run, in seconds.
    busy: f64,
    cores: f64,
    /// Duration in seconds and verdict of each trial, by variant and trial.
    trials: BTreeMap<String, (f64, String)>,
}

pub fn parallel(report: &mut Report, store: &Path, seeds: usize) {
    let one = run(store, seeds, 1);
    let many = run(store, seeds, JOBS);
    let all = SCENARIOS.len() * VARIANTS.split(',').count() * seeds;
    if [&one, &many].iter().any(|run| run.trials.len() != all) {
        say(&format!("parallel: {} and {} of {all} trials have ended: nothing to compare", one.trials.len(), many.trials.len()));
        return;
    }
    let walls = || one.trials.values().map(|(wall, _)| *wall);
    let (work, longest) = (walls().sum::<f64>(), walls().fold(0.0, f64::max));
    // Lower bound of the duration in any order of the trials: the maximum of three bounds. They are the longest trial, the total time of
    // the trials per slot, and their processor time per core.
    let path = longest.max(work / JOBS as f64).max(one.busy / one.cores);
    let differ: Vec<&String> =
        one.trials.iter().filter(|(name, (_, verdict))| many.trials[*name].1 != *verdict).map(|(name, _)| name).collect();
    say(&format!("parallel: {all} trials, {work:.0} s of trials, the longest {longest:.1} s, {:.0} s of processors", one.busy));
    for name in &differ {
        say(&format!("parallel: {name} was {} alone, and {} among {JOBS}", one.trials[*name].1, many.trials[*name].1));
    }
    let slower = many.trials.iter().map(|(name, (wall, _))| wall / one.trials[name].0).collect();
    report.add("parallel: wall, one at a time", "s", None, vec![one.wall]);
    report.add("parallel: wall, eight at a time", "s", None, vec![many.wall]);
    report.add("parallel:   the critical path", "s", None, vec![path]);
    report.add("parallel:   wall of the critical path", "x", 1.5, vec![many.wall / path]);
    report.add("parallel: all cores busy, one at a time", "%", None, vec![one.busy / one.wall / one.cores * 100.0]);
    report.add("parallel: all cores busy, eight at a time", "%", None, vec![many.busy / many.wall / many.cores * 100.0]);
    report.add("parallel: a trial among eight, to itself alone", "x", None, slower);
    report.add("parallel: verdicts that differ", "", 0.0, vec![differ.len() as f64]);
}

fn run(store: &Path, seeds: usize, jobs: usize) -> Run {
    let (seeds, jobs) = (format!("1..{seeds}"), jobs.to_string());
    let mut arguments = vec!["run"];
    arguments.extend(SCENARIOS);
    arguments.extend(["--variant", VARIANTS, "--seed", &seeds, "--jobs", &jobs, "--message-format", "json"]);
    let before = busy();
    let done = measure(&arguments, Some(store));
    let after = busy();
    let mut begun: BTreeMap<String, String> = BTreeMap::new();
    let mut trials = BTreeMap::new();
    for event in events(&done.stdout) {
        let (kind, id) = (&event["kind"], event["trial"].to_string());
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match kind["type"].as_str() {
            Some("trial_started") => {
                begun.insert(id, format!("{}/{} seed {}", text(&kind["scenario"]), text(&kind["variant"]), kind["seed"]));
            }
            Some("trial_finished") => {
                let wall = kind["wall_us"].as_f64().unwrap_or_default() / 1e6;
                trials.extend(begun.remove(&id).map(|name| (name, (wall, text(&kind["verdict"])))));
            }
            _ => {}
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    Run { wall: done.wall.as_secs_f64(), busy: after - before, cores, trials }
}

/// Returns the total time in seconds in which the processors were not idle since the machine was started.
fn busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // proc_stat(5): idle and iowait are the fourth and fifth; guests are already counted among users.
    let used = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| fields.get(*at)).sum::<f64>();
    used / TICKS
}
