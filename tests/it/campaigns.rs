//! Tests of campaigns that are killed and resumed, stopped by a budget, retried or merged.

use std::collections::BTreeMap;
use std::path::Path;

use chaosrun_event::{EventKind, Resource, Stopped, Verdict};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::models::server;
use super::program::{Program, Project, Ran};

/// Campaign on an empty cluster, whose agents have nothing to repair.
const CAMPAIGN: &str = "
name: many
scenarios: [empty.yaml]
variants: [noop, three_commands]
seeds: 1..10
";

const MANY: [&str; 3] = ["scenarios/campaigns/many.yaml", "--jobs", "2"];

fn many() -> Project {
    Project::new().changed("empty", &[]).file("scenarios/campaigns/many.yaml", CAMPAIGN)
}

/// Returns the output of `chaosrun list` for all trials of a record.
fn listed(store: &Path) -> Vec<Value> {
    let ran = Program::new().args(["list", "--all", "--limit", "9999", "--message-format", "json"]).store(store).run();
    ran.exits(0).stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn kept(ran: &Ran) -> Vec<usize> {
    let number = |kind| if let EventKind::TrialKept(kept) = kind { Some(kept.number) } else { None };
    ran.events().into_iter().filter_map(|event| number(event.kind)).collect()
}

#[test]
fn run_killed_twice_is_resumed_and_every_trial_ends_once() {
    let project = many();
    for _ in 0..2 {
        let mut live = project.program("run").args(MANY).arg("--resume").json().start();
        for _ in 0..5 {
            live.until("ended a trial", |kind| matches!(kind, EventKind::TrialFinished(_)));
        }
        live.signal(Signal::SIGKILL);
        assert_eq!(live.wait().code, None);
    }
    let ran = project.run(&[&MANY[..], &["--resume"]].concat()).exits(0);
    let before = kept(&ran);
    // Events are printed before they are recorded: each kill may lose the last event of both jobs.
    assert!(before.len() >= 6 && before.len() + ran.trials().len() == 20, "{ran}");

    let mut ended: BTreeMap<(String, String), usize> = BTreeMap::new();
    for trial in listed(&project.store()) {
        if trial["verdict"] == "pass" {
            *ended.entry((trial["variant"].to_string(), trial["seed"].to_string())).or_default() += 1;
        }
    }
    assert_eq!(ended.len(), 20, "{ended:?}");
    assert!(ended.values().all(|times| *times == 1), "{ended:?}");

    let complete = project.run(&[&MANY[..], &["--resume"]].concat()).exits(0);
    assert_eq!((kept(&complete), complete.trials().len()), ((1..=20).collect(), 0), "{complete}");
    let told = project.program("replay").run().exits(0).stderr;
    assert!(told.contains("DONE 20 of 20 passed") && told.contains("no trials were left to"), "{told}");
}

/// Model script for trials with a single request, which costs 20 cents.
const SCRIPT: &str = r"
turns:
  - repeat: true
    calls:
      - name: submit_diagnosis
        arguments: { root_cause: none, component: none, fault_class: none, confidence: 0.9, evidence: [], outcome: no_action }
    usage: { input: 10000, output: 1000, cache_read: 0, cache_write: 0, thinking: 0 }
";

#[test]
fn budget_is_never_exceeded_and_missing_trials_can_be_resumed() {
    let project = many().file("script.yaml", SCRIPT);
    let server = server(&project);
    let variant = |limits: &str| {
        format!(
            "provider: anthropic\nmodel: m\nbase_url: {}\nkey: {{ file: key }}\nprice: {{ input: 10, output: 100 }}\nmax_tokens: 1000\n\
             tools: [submit_diagnosis]\nlimits: {{ turns: 1{limits} }}\n",
            server.url
        )
    };
    let project = project.file("key", "sk-test").file("variants/asks.yaml", &variant(""));
    let run = ["scenarios/empty.yaml", "--variant", "asks", "--seed", "1..6", "--resume", "--budget-usd"];
    let refused = project.program("run").args(run).arg("1").run().exits(3).stderr;
    assert!(refused.contains("error[unbounded_trial]: the variant `asks` has no limit of dollars"), "{refused}");
    assert!(refused.contains("variants/asks.yaml:1:1"), "{refused}");

    let project = project.file("variants/asks.yaml", &variant(", usd: 0.50"));
    let ran = project.run(&[&run[..], &["1"]].concat()).exits(5);
    assert_eq!(ran.trials().len(), 3, "after three 60 cents are spent, and a fourth might take 50: {ran}");
    let stopped = ran
        .events()
        .into_iter()
        .find_map(|event| if let EventKind::RunStopped { why, missing } = event.kind { Some((why, missing)) } else { None });
    match stopped {
        Some((Stopped::Budget { of: Resource::Usd, limit, spent, next }, 3)) => {
            assert_eq!([limit, spent, next].map(|usd| format!("{usd:.2}")), ["1.00", "0.60", "0.50"], "{ran}");
        }
        other => panic!("{other:?}: {ran}"),
    }
    let told = project.program("replay").run().exits(5).stderr;
    assert!(told.contains("the budget of $1.00: $0.60 used, and the next trial may need $0.50;") && told.contains("--resume"), "{told}");

    let rest = project.run(&[&run[..], &["10"]].concat()).exits(0);
    assert_eq!((kept(&rest), rest.trials().len()), (vec![1, 2, 3], 3), "{rest}");
}

/// Cluster that never becomes steady at its first start: its only node ends at once, unless the node has been started before.
const SHY: &str = r#"
nodes:
  n:
    command: [sh, -c, "test -e FLAG && exec sleep 1000; touch FLAG; exit 3"]
observe:
  runs: { on: each n, alive: true }
invariants:
  node_up: { each: runs, node: item.node, expect: item.ok, severity: critical }
"#;

const WELL: &str = r"
name: well
cluster: clusters/shy.yaml
goal: nothing
timing: { steady_for: 2s, ready_within: 5s, stable_for: 0s }
page: { text: a false alarm }
agent: { variant: noop }
";

#[test]
fn an_invalid_trial_is_tried_again_and_both_attempts_are_shown() {
    let project = Project::new().file("scenarios/well.yaml", WELL);
    let flag = project.path().join("flag").display().to_string();
    let project = project.file("scenarios/clusters/shy.yaml", &SHY.replace("FLAG", &flag));
    let junit = project.path().join("junit.xml").display().to_string();
    let ran = project.run(&["scenarios/well.yaml", "--retries", "2", "--junit", &junit]).exits(0);
    let found: Vec<_> = ran.trials().iter().map(|trial| (trial.started.number, trial.started.attempt, trial.verdict())).collect();
    assert_eq!(found, [(1, 1, Verdict::Invalid), (1, 2, Verdict::Pass)], "{ran}");
    let told = project.program("replay").run().exits(0).stderr;
    assert!(told.contains("DONE 1 of 1 passed") && told.contains("1 invalid, retried") && told.contains("#1 (attempt 2)"), "{told}");
    let xml = std::fs::read_to_string(junit).expect("written");
    let report = quick_junit::Report::deserialize_from_str(&xml).expect("JUnit that parses");
    assert_eq!((report.tests, report.errors), (1, 0), "{xml}");
    assert!(xml.contains("flakyError"), "{xml}");
}

#[test]
fn records_of_several_machines_are_merged() {
    let project = many();
    for seed in ["1", "2"] {
        let run = Program::new().dir(project.path()).args(["run", "scenarios/empty.yaml", "--seed", seed]);
        run.store(&project.path().join(seed)).run().exits(0);
    }
    for copied in ["1: copied 1 run, 1 trial", "1: copied 0 runs, 0 trials"] {
        let ran = Program::new().dir(project.path()).args(["merge", "all.db", "1", "2"]).run().exits(0);
        assert!(ran.stdout.contains(copied), "{ran}");
    }
    assert_eq!(listed(&project.path().join("all.db")).len(), 2);
}
