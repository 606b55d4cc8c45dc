//! Benchmark of agents with a model: the cost of a turn in addition to the model, and many agents at once. The log of the fake model shows
//! whether the record is complete.
#![expect(clippy::cast_precision_loss, reason = "counts of some thousands")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::{Report, events, kinds, measure, program};

const TURNS: usize = 200;
const AGENTS: usize = 32;
const TURNS_OF_MANY: usize = 20;

/// Returns the script of a model that runs `true` in its shell `turns` times and then ends. Each answer takes `latency`.
fn script(turns: usize, latency: &str) -> String {
    format!(
        "turns:\n  - {{ when: turn <= {turns}, repeat: true, latency: {latency}, calls: [{{ name: shell, arguments: {{ command: 'true {{{{ turn }}}}' }} }}] }}\n  \
         - latency: {latency}\n    calls: [{{ name: submit_diagnosis, arguments: {{ root_cause: nothing, component: none, fault_class: none, \
         confidence: 1, outcome: no_action }} }}]\n"
    )
}

/// Project with a fake model, a variant that uses the model, and a scenario without a fault.
struct Talk {
    folder: tempfile::TempDir,
    server: Child,
}

impl Talk {
    fn new(turns: usize, latency: &str) -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("scenarios")).ok()?;
        fs::create_dir_all(at("variants")).ok()?;
        fs::write(at("script.yaml"), script(turns, latency)).ok()?;
        let mut server = Command::new(program())
            .args(["node", "model", "script.yaml", "--log", "asked.jsonl"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut url = String::new();
        BufReader::new(server.stdout.take()?).read_line(&mut url).ok()?;
        let variant = format!(
            "provider: anthropic\nmodel: some-model\nbase_url: {}\nprice: {{ input: 1, output: 1 }}\nlimits: {{ turns: 1000 }}\n",
            url.trim()
        );
        fs::write(at("variants/talker.yaml"), variant).ok()?;
        let scenario = "name: talk\ncluster: clusters/none.yaml\ngoal: nothing\ntiming: { steady_for: 0s, stable_for: 0s, repair_within: 10m }\n\
                        page: { text: a false alarm }\nagent: { variant: talker }\nlimits: { wall: 10m, turns: 1000, tokens: 100M, usd: 1000 }\n";
        fs::write(at("scenarios/talk.yaml"), scenario).ok()?;
        Some(Self { folder, server })
    }

    fn scenario(&self) -> String {
        self.folder.path().join("scenarios/talk.yaml").display().to_string()
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("record")
    }

    /// Returns the number of requests that the fake model has answered successfully.
    fn answered(&self) -> usize {
        let log = fs::read_to_string(self.folder.path().join("asked.jsonl")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|line| line["status"] == 200).count()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub fn turns(report: &mut Report) {
    let name = "turn of an agent: from asking to asking again";
    let Some(talk) = Talk::new(TURNS, "0ms") else { return report.add(name, "ms", 5.0, Vec::new()) };
    let done = measure(&["run", &talk.scenario(), "--message-format", "json"], Some(&talk.store()));
    let events = events(&done.stdout);
    let asked: Vec<f64> = events
        .iter()
        .filter(|event| event["kind"]["type"] == "model_asked")
        .filter_map(|event| event["elapsed_us"].as_f64().map(|us| us / 1e3))
        .collect();
    // The first command starts the shell.
    let turns: Vec<f64> = asked.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    let all =
        |field: &'static str, name: &'static str| kinds(&events, name).filter_map(|kind| kind[field].as_f64()).map(|us| us / 1e3).collect();
    report.add(name, "ms", 5.0, turns);
    report.add("turn of an agent:   the exchange with the model", "ms", None, all("took_us", "model_answered"));
    report.add("turn of an agent:   the command `true`", "ms", None, all("took_us", "command_finished"));
    let cpu = done.cpu.as_secs_f64() * 1e3 / asked.len().max(1) as f64;
    report.add("turn of an agent:   CPU of the runner", "ms", None, vec![cpu]);
}

/// Returns the busy time and the total time of all processors since the start of the machine, in ticks.
fn machine() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|tick| tick.parse().ok()).collect();
    let all: f64 = ticks.iter().take(8).sum();
    // Idle, and waiting for disks.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

pub fn agents(report: &mut Report) {
    let busy = "32 agents, answers after 200 ms: the machine";
    let Some(talk) = Talk::new(TURNS_OF_MANY, "200ms") else { return report.add(busy, "%", 60.0, Vec::new()) };
    let agents = AGENTS.to_string();
    let before = machine();
    let arguments = ["run", &talk.scenario(), "--repeat", &agents, "--jobs", &agents, "--message-format", "json"];
    let done = measure(&arguments, Some(&talk.store()));
    let after = machine();
    let events = events(&done.stdout);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = |cpu: f64| cpu / done.wall.as_secs_f64() / cores as f64 * 100.0;
    report.add(busy, "%", 60.0, vec![(after.0 - before.0) / (after.1 - before.1) * 100.0]);
    report.add("32 agents:   CPU of the runner, of all cores", "%", 60.0, vec![share(done.cpu.as_secs_f64())]);
    report.add("32 agents:   wall", "s", None, vec![done.wall.as_secs_f64()]);
    report.add("32 agents:   the waits alone", "s", None, vec![(TURNS_OF_MANY + 1) as f64 * 0.2]);
    report.add("32 agents:   trials that passed", "", None, vec![passed(&events)]);
    let (answered, told) = (talk.answered(), kinds(&events, "model_answered").count());
    let wanted = AGENTS * (TURNS_OF_MANY + 1);
    report.add("32 agents:   answers that are not in the events", "", 0.0, vec![answered.abs_diff(told) as f64]);
    report.add("32 agents:   answers that are missing", "", 0.0, vec![wanted.abs_diff(answered) as f64]);
    report.add("32 agents:   events that are not in the record", "", 0.0, vec![unrecorded(&talk.store(), &events)]);
}

fn passed(events: &[Value]) -> f64 {
    kinds(events, "trial_finished").filter(|kind| kind["verdict"] == "pass").count() as f64
}

/// Returns the difference between the number of events that a run printed and the number that a replay of its record prints.
fn unrecorded(store: &Path, told: &[Value]) -> f64 {
    let replayed = measure(&["replay", "--message-format", "json"], Some(store));
    told.len().abs_diff(events(&replayed.stdout).len()) as f64
}
