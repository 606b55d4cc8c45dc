//! Tests of data that must not change: configurations, digests, choices of seeds, shapes of events and exit codes of the built program.
//!
//! The expected texts are in `tests/unchanged/`. To accept an intended difference, run `INSTA_UPDATE=always cargo test --test it unchanged`,
//! read the difference, and commit it together with its cause. A commit that only moves or renames code changes none of these files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use chaosrun_base::seed;
use rand::Rng as _;
use serde_json::{Map, Value};

use crate::program::{Program, Project, Ran};
use crate::replayed;

/// Compares a value with the expected text in `tests/unchanged/NAME.snap`.
macro_rules! assert_unchanged {
    ($name:expr, $text:expr) => {
        insta::with_settings!({ snapshot_path => "../unchanged", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

/// Returns the paths of all shipped scenarios relative to the project root, sorted.
fn scenarios() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["scenarios", "scenarios/etcd", "scenarios/ratelimiter"] {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
        files.extend(entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")));
    }
    files.sort();
    let relative = |path: &PathBuf| path.strip_prefix(root).expect("below the root").display().to_string();
    files.iter().map(relative).collect()
}

/// Returns the resolved configurations that a command prints, one per scenario and variant.
fn configs(args: &[&str]) -> Vec<Value> {
    lines(&Program::new().arg("plan").args(args).arg("--print-config").json().run().exits(0))
}

/// Returns the trials of a plan, in the order of the plan.
fn trials(args: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = lines(&Program::new().arg("plan").args(args).json().store(folder.path()).run().exits(0)).remove(0);
    plan["trials"].as_array().expect("trials").clone()
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("`{key}` is a text in {value}"))
}

/// Returns the first half of the digest of a JSON value, in hexadecimal.
fn digest(value: &Value) -> String {
    blake3::hash(value.to_string().as_bytes()).to_hex()[..16].to_owned()
}

/// Returns a digest per part of a configuration. The parts are its top-level keys, and the keys of its top-level objects.
fn parts(config: &Value) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    for (key, value) in config.as_object().expect("an object") {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                parts.extend(inner.iter().map(|(name, value)| (format!("{key}.{name}"), digest(value))));
            }
            _ => parts.push((key.clone(), digest(value))),
        }
    }
    parts
}

/// Returns one line per part and value, with the scenarios that have the value. A change of a shared file then changes few lines.
fn by_part(configs: &[(String, Value)]) -> String {
    let mut parts_of: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for (name, config) in configs {
        for part in parts(config) {
            parts_of.entry(part).or_default().push(name);
        }
    }
    parts_of.into_iter().fold(String::new(), |mut text, ((part, digest), names)| {
        let _ = writeln!(text, "{part} {digest}: {}", names.join(" "));
        text
    })
}

#[test]
fn configurations_of_shipped_scenarios_are_unchanged() {
    let files = scenarios();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let configs: Vec<Value> = configs(&files);
    assert_eq!(configs.len(), files.len(), "one configuration per scenario");
    let name = |file: &str| file.trim_start_matches("scenarios/").trim_end_matches(".yaml").to_owned();
    let named: Vec<(String, Value)> = files.iter().map(|file| name(file)).zip(configs).collect();
    assert_unchanged!("configurations_on_local", by_part(&named));
}

#[test]
fn configurations_in_containers_are_unchanged() {
    let of = |file: &str, standin: bool| {
        let mut args = vec![file, "--backend", "docker"];
        args.extend(standin.then_some("--standin"));
        configs(&args).remove(0)
    };
    let named = [
        ("node_kill".to_owned(), of("scenarios/node_kill.yaml", false)),
        ("node_kill/standin".to_owned(), of("scenarios/node_kill.yaml", true)),
        ("etcd/node_kill".to_owned(), of("scenarios/etcd/node_kill.yaml", false)),
        ("ratelimiter/node_kill".to_owned(), of("scenarios/ratelimiter/node_kill.yaml", false)),
    ];
    assert_unchanged!("configurations_in_containers", by_part(&named));
}

/// Trials of all shipped scenarios with 20 seeds each, planned once for all tests that read them.
static SEEDS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let files = scenarios();
    let files = files.iter().map(String::as_str);
    trials(&files.chain(["--seed", "1..20"]).collect::<Vec<_>>())
});

#[test]
fn digests_of_yardsticks_and_subjects_are_unchanged() {
    let variants = ["noop", "oracle", "playbook", "restart_all", "three_commands", "diagnose_only", "kitchen", "menu"];
    let variants: Vec<&str> = variants.iter().flat_map(|name| ["--variant", name]).collect();
    let one = |args: &[&str]| trials(&[&["scenarios/node_kill.yaml"], args].concat());
    let mut all: Vec<Value> = SEEDS.iter().filter(|trial| trial["seed"] == 1).cloned().collect();
    all.extend(one(&variants));
    all.extend(one(&["--backend", "docker"]));
    all.extend(one(&["--backend", "docker", "--standin"]));
    all.extend(trials(&["scenarios/etcd/node_kill.yaml", "scenarios/ratelimiter/node_kill.yaml", "--backend", "docker"]));
    let mut told = String::new();
    for trial in all {
        let names = ["file", "backend", "variant", "yardstick", "subject"].map(|key| text(&trial, key).to_owned());
        let _ = writeln!(told, "{}", names.join(" "));
    }
    assert_unchanged!("digests", told);
}

#[test]
fn targets_of_20_seeds_are_unchanged() {
    let mut hit: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for trial in SEEDS.iter() {
        for (fault, targets) in trial["targets"].as_object().expect("targets") {
            let nodes: Option<Vec<&str>> = targets.as_array().map(|nodes| nodes.iter().filter_map(Value::as_str).collect());
            let nodes = nodes.map_or_else(|| "chosen at run time".to_owned(), |nodes| nodes.join("+"));
            hit.entry((text(trial, "file").to_owned(), fault.clone())).or_default().push(nodes);
        }
    }
    let mut told = String::new();
    for ((file, fault), mut nodes) in hit {
        assert_eq!(nodes.len(), 20, "{file} {fault}");
        if nodes.iter().all(|one| *one == nodes[0]) {
            nodes.truncate(1);
        }
        let _ = writeln!(told, "{file} {fault}: {}", nodes.join(" "));
    }
    assert_unchanged!("targets_of_20_seeds", told);
}

#[test]
fn streams_of_20_seeds_are_unchanged() {
    let names =
        ["chaos.kill.target", "chaos.kill.group.1", "chaos.kill.2.shape", "agent.model.retry", "link.a.b.client.1.delay", "links.a.loss"];
    let mut told = String::new();
    for number in 1..=20 {
        let drawn = names.map(|name| format!("{:016x}", seed::stream(number, name).next_u64()));
        let _ = writeln!(told, "{number:>2} {}", drawn.join(" "));
    }
    assert_unchanged!("streams_of_20_seeds", format!("seed {}\n{told}", names.join(" ")));
}

#[test]
fn orders_of_campaigns_are_unchanged() {
    for campaign in ["five", "smoke"] {
        let file = format!("scenarios/campaigns/{campaign}.yaml");
        let mut told = String::new();
        for trial in trials(&[&file]) {
            let numbers = ["number", "seed", "repeat"].map(|key| trial[key].to_string());
            let names = ["scenario", "variant", "role"].map(|key| text(&trial, key).to_owned());
            let _ = writeln!(told, "{} {} {}", numbers.join(" "), names.join(" "), trial["targets"]);
        }
        assert_unchanged!(format!("order_of_{campaign}"), told);
    }
}

/// Paths and types of the JSON values in events, by event type.
#[derive(Default)]
struct Shapes(BTreeMap<String, BTreeMap<String, BTreeSet<&'static str>>>);

impl Shapes {
    /// Names of JSON objects whose keys are data: names of nodes, numbers, fields or verdicts.
    const MAPS: [&str; 9] = ["parameters", "numbers", "fields", "counts", "cell", "roles", "scoring", "autopsy", "params"];

    fn event(&mut self, event: &Value) {
        let kind = event["kind"].as_object().expect("a kind");
        let name = kind["type"].as_str().expect("a type").to_owned();
        let mut head: Map<String, Value> = event.as_object().expect("an object").clone();
        head.remove("kind");
        Self::value(self.0.entry("every event".into()).or_default(), "", &Value::Object(head));
        Self::value(self.0.entry(name).or_default(), "", &Value::Object(kind.clone()));
    }

    fn value(paths: &mut BTreeMap<String, BTreeSet<&'static str>>, path: &str, value: &Value) {
        let mut seen = |kind: &'static str| {
            paths.entry(path.to_owned()).or_default().insert(kind);
        };
        match value {
            Value::Null => seen("null"),
            Value::Bool(_) => seen("boolean"),
            Value::Number(_) => seen("number"),
            Value::String(_) => seen("text"),
            Value::Array(items) => {
                seen("list");
                for item in items {
                    Self::value(paths, &format!("{path}[]"), item);
                }
            }
            Value::Object(map) => {
                let last = path.rsplit('.').next().unwrap_or_default();
                if Self::MAPS.contains(&last.trim_end_matches("[]")) {
                    return seen("map");
                }
                for (key, value) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    Self::value(paths, &path, value);
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut told = String::new();
        for (name, paths) in &self.0 {
            let _ = writeln!(told, "{name}");
            for (path, kinds) in paths {
                let _ = writeln!(told, "  {path}: {}", kinds.iter().copied().collect::<Vec<_>>().join(" or "));
            }
        }
        told
    }
}

#[test]
fn shapes_of_recorded_events_are_unchanged() {
    let mut shapes = Shapes::default();
    let live = Project::new().run(&["embedded:scenarios/empty.yaml"]).exits(0);
    for event in lines(&live) {
        shapes.event(&event);
    }
    assert_unchanged!("events_of_an_empty_trial", shapes.text());
    // Recordings are read, and written as this version writes events.
    let mut shapes = Shapes::default();
    for event in replayed::names().iter().flat_map(|name| replayed::events(name)) {
        shapes.event(&serde_json::to_value(&event).expect("JSON"));
    }
    assert_unchanged!("events_of_recordings", shapes.text());
}

const ENDLESS: &str = "provider: scripted\nrules: [{ commands: [sleep 60, sleep 60, sleep 60], end: no_action }]\n";
const EMPTY: &str = "name: NAME\ncluster: clusters/none.yaml\ngoal: nothing\ntiming: { steady_for: 0s, stable_for: 0s }\n\
                     page: { text: a false alarm }\nagent: { variant: three_commands }\n";
/// Scenario with two processes, one of which is killed.
const DOWN: &str = "name: down\ncluster: clusters/two.yaml\ngoal: repair\n\
                    timing: { steady_for: 0s, detect_within: 30s, repair_within: 60s, stable_for: 0s }\n\
                    chaos: { kill: { inject: { node_kill: { target: a } }, heal: agent } }\n\
                    limits: { wall: 50s, command: 50s }\nagent: { variant: oracle }\n";
const TWO: &str = "nodes: { a: { command: [sleep, '1000'] }, b: { command: [sleep, '1000'] } }\n\
                   observe: { up: { on: each a, alive: true } }\n\
                   invariants: { up: { each: up, node: item.node, expect: item.ok, severity: critical } }\n";
const DEAD: &str = "nodes: { a: { command: [sleep, '60'], ready: { tcp: '127.0.0.1:1', within: 200ms } } }\n";

/// Returns a project with small scenarios that have different outcomes.
fn outcomes() -> Project {
    Project::new()
        .file("variants/endless.yaml", ENDLESS)
        .file("scenarios/passes.yaml", &EMPTY.replace("NAME", "passes"))
        .file("scenarios/is_invalid.yaml", &EMPTY.replace("NAME", "is_invalid").replace("none", "dead"))
        .file("scenarios/down.yaml", DOWN)
        .file("scenarios/clusters/dead.yaml", DEAD)
        .file("scenarios/clusters/two.yaml", TWO)
        .file("wrong.yaml", "name: wrong\ncluster: clusters/none.yaml\ngoal: win\n")
        .file("a file", "")
}

/// Runs every line of `invocations.txt` in the same project, in this order. The character `~` represents a space within a word.
#[test]
fn exit_codes_are_unchanged() {
    let project = outcomes();
    let mut told = String::new();
    for words in include_str!("../unchanged/invocations.txt").lines() {
        let ran = Program::new().dir(project.path()).args(words.split(' ').map(|word| word.replace('~', " "))).run();
        let _ = writeln!(told, "{:>3} chaosrun {words}", ran.code.map_or_else(|| "-".to_owned(), |code| code.to_string()));
    }
    assert_unchanged!("exit_codes", told);
}
