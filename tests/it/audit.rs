//! Tests of the audit: the session of an agent is listed, shown and exported, and its diagnosis is graded.

use std::process::{Command, Stdio};

use chaosrun_event::{Event, EventKind, Fit};
use serde_json::Value;

use super::program::{Live, Program, Project, Ran};
use super::require;
use super::trials::patient;

/// Model script that observes, repairs, and submits a diagnosis in which one of the two quotes is invented.
const REPAIRS: &str = r#"
capture:
  node: { pattern: 'Node: (\w+)' }
turns:
  - error: { status: 529, retry_after_ms: 1 }
    thinking: "{{ node }} may be down."
    text: I look.
    calls: [{ name: shell, arguments: { command: docker ps -a, reasoning: Which are there? } }]
    usage: { input: 1000, output: 100, cache_read: 50, cache_write: 0, thinking: 7 }
  - calls: [{ name: shell, arguments: { command: "docker start {{ node }}", reasoning: It has ended. } }]
  - calls:
      - name: submit_diagnosis
        arguments:
          root_cause: the process stood still
          component: "{{ node }}"
          fault_class: process_hang
          confidence: 0.9
          evidence: ["docker ps: Exited (137)", "the disk is full, says dmesg"]
          alternatives: [{ cause: a slow disk, rejected_because: it had ended }]
          outcome: resolved
"#;

fn recorded() -> (Project, Ran) {
    let project = patient().file("script.yaml", REPAIRS);
    let mut live: Live = Program::new().dir(project.path()).args(["node", "model", "script.yaml"]).start();
    let url = live.until_line("printed its address", |line| line.starts_with("http://")).trim().to_owned();
    let variant = format!(
        "provider: anthropic\nmodel: some-model\nbase_url: {url}\nprice: {{ input: 10, output: 100 }}\nretries: 1\nthinking: adaptive\n"
    );
    let project = project.file("variants/claude.yaml", &variant);
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "claude", "--variant", "playbook"]).exits(0);
    (project, ran)
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {ran}"))).collect()
}

/// Checks the format of an ATIF trajectory by own rules, and by the published ATIF models if they are installed.
fn assert_atif(trajectory: &Value) {
    let schema: Value = serde_json::from_str(include_str!("fixtures/atif.schema.json")).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let wrong: Vec<String> = validator.iter_errors(trajectory).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{trajectory:#}");
    let Some(python) = require::sdk() else { return };
    let read = "import sys, atif; atif.Trajectory.model_validate_json(sys.stdin.read())";
    let mut python = Command::new(python).args(["-c", read]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python starts");
    serde_json::to_writer(python.stdin.take().expect("piped"), trajectory).expect("written");
    let ended = python.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_session_is_graded_listed_shown_and_exported() {
    if require::program("bwrap").is_none() {
        return;
    }
    let (project, ran) = recorded();
    let trials = ran.trials();
    let of = |variant: &str| trials.iter().find(|trial| trial.name().contains(variant)).expect("a trial");
    let (claude, playbook) = (of("claude"), of("playbook"));

    // The node is right, the class is similar, one of two quotes was shown.
    let grade = claude.finished().diagnosis.clone().expect("a grade");
    let target = claude.finished().faults[0].targets[0].clone();
    let fault = &grade.faults[0];
    assert_eq!((fault.component, fault.fault_class, &fault.nodes[..]), (Fit::Exact, Fit::Near, &[target][..]), "{grade:?}");
    assert_eq!((grade.quotes, grade.quotes_found, &grade.not_found[..]), (2, 1, &["the disk is full, says dmesg".to_owned()][..]));
    let part = |name: &str| claude.finished().parts.iter().find(|part| part.name == name).map(|part| part.value);
    assert_eq!((part("component"), part("fault_class"), part("evidence")), (Some(1.0), Some(0.5), Some(0.5)), "{ran}");
    let grade = playbook.finished().diagnosis.clone().expect("a grade");
    assert_eq!((grade.component, grade.fault_class, grade.quotes_found), (1.0, 1.0, 1), "{grade:?}");

    // Every exchange has a start event, every result its summary.
    let count = |wanted: fn(&EventKind) -> bool| claude.kinds.iter().filter(|kind| wanted(kind)).count();
    assert_eq!(
        count(|kind| matches!(kind, EventKind::ModelAsked { .. })),
        count(|kind| matches!(kind, EventKind::ModelAnswered { .. })),
        "{ran}"
    );
    let summed = |kind: &EventKind| matches!(kind, EventKind::CommandFinished { summary, .. } if summary.starts_with("exit 0, "));
    assert_eq!(claude.kinds.iter().filter(|kind| summed(kind)).count(), 2, "{ran}");

    let ops = |args: &[&str]| Program::new().dir(project.path()).args(["ops", "audit"]).args(args).store(&project.store()).run();
    let listed = lines(&ops(&["list", "--json", "--variant", "claude"]).exits(0));
    assert_eq!(listed.len(), 1);
    let session = listed[0]["session"].as_str().expect("an id").to_owned();
    let numbers = ["turns", "commands", "exchanges"].map(|name| listed[0][name].as_u64().expect("a number"));
    assert_eq!((numbers, &listed[0]["end"], &listed[0]["model"]), ([3, 2, 3], &Value::from("resolve"), &Value::from("some-model")));
    assert!(listed[0]["usd"].as_f64().expect("dollars") > 0.01, "{listed:?}");
    let table = ops(&["list"]).exits(0).stdout;
    assert!(table.lines().count() == 3 && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    ops(&["list", "--end", "limit"]).exits(6);

    let shown = ops(&["show", &session]).exits(0).stdout;
    for words in
        ["thinks    ", "may be down.", "runs      docker start", "exit 0", "finds     process_hang of", "ends      resolved", "529"]
    {
        assert!(shown.contains(words), "no `{words}` in\n{shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(ops(&["show", &session, "--full"]).exits(0).stdout.contains("| "), "whole outputs");
    let events: Vec<Event> = lines(&ops(&["show", &session, "--json"]).exits(0))
        .into_iter()
        .map(|line| serde_json::from_value(line).expect("an event"))
        .collect();
    assert!(
        matches!(events[0].kind, EventKind::AgentStarted { .. })
            && matches!(events[events.len() - 1].kind, EventKind::AgentFinished { .. })
    );
    let told = project.program("show").arg(&session).run().exits(0).stdout;
    assert!(told.contains("near: process_hang") && told.contains("1 of 2 quotes was shown to the agent"), "{told}");

    let export = |args: &[&str]| project.program("export").args(args).run();
    let trajectory: Value = serde_json::from_str(&export(&[&session, "--format", "atif"]).exits(0).stdout).expect("JSON");
    assert_atif(&trajectory);
    let cached: Vec<u64> =
        trajectory["steps"].as_array().expect("steps").iter().filter_map(|step| step["metrics"]["cached_tokens"].as_u64()).collect();
    assert_eq!(
        (cached.len(), cached[0], &trajectory["final_metrics"]["total_cached_tokens"]),
        (3, 50, &Value::from(cached.iter().sum::<u64>()))
    );
    assert!(trajectory["steps"].as_array().expect("steps").iter().any(|step| step["reasoning_content"].is_string()));
    assert_eq!(trajectory["extra"]["result"]["diagnosis"]["fault_class"], 0.5);
    let run = listed[0]["run"].as_str().expect("an id");
    let folder = project.path().join("out/");
    export(&[run, "--format", "atif", "-o", &folder.display().to_string()]).exits(0);
    let files: Vec<_> = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        assert_atif(&serde_json::from_str(&std::fs::read_to_string(file).expect("text")).expect("JSON"));
    }
    assert_eq!(lines(&export(&[run, "--format", "jsonl"]).exits(0)).len(), ran.events().len());
}
