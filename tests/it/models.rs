//! Tests of whole trials in which a model decides, over both wire formats and with a complete record.

use std::fs;
use std::path::{Path, PathBuf};

use chaosrun_event::{AgentEnd, Blame, EventKind, Verdict};

use super::program::{Live, Program, Project, Ran, Trial};
use super::require;
use super::trials::{patient, proven};

const KEY: &str = "sk-test-of-a-trial";

/// Model script that reads the node from the ticket, observes, calls an unknown tool, repairs, and submits a diagnosis.
const REPAIRS: &str = r#"
key: sk-test-of-a-trial
capture:
  node: { pattern: 'Node: (\w+)' }
turns:
  - error: { status: 529, retry_after_ms: 1 }
    thinking: "{{ node }} may be down."
    text: I look.
    calls:
      - { name: shell, arguments: { command: docker ps -a, reasoning: Which are there? } }
      - { name: reboot, arguments: {} }
    usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }
  - calls: [{ name: shell, arguments: { command: "docker start {{ node }}", reasoning: It has ended. } }]
    usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }
  - calls:
      - name: submit_diagnosis
        arguments:
          root_cause: the process was killed
          component: "{{ node }}"
          fault_class: process_crash
          confidence: 0.9
          evidence: ["{{ last }}"]
          outcome: resolved
    usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }
"#;

pub struct Server {
    _live: Live,
    pub url: String,
}

pub fn server(project: &Project) -> Server {
    let mut live = Program::new().dir(project.path()).args(["node", "model", "script.yaml", "--log", "asked.jsonl"]).start();
    let url = live.until_line("printed its address", |line| line.starts_with("http://")).trim().to_owned();
    Server { _live: live, url }
}

/// Adds one variant per wire format. Both use the model server at `url`.
fn variants(project: Project, url: &str) -> Project {
    let of = |provider: &str, url: &str| {
        format!(
            "provider: {provider}\nmodel: some-model\nbase_url: {url}\nkey: {{ file: key }}\nprice: {{ input: 10, output: 100 }}\nretries: 1\n"
        )
    };
    let (anthropic, openai) = (of("anthropic", url), of("openai", &format!("{url}/v1")));
    project.file("key", KEY).file("variants/claude.yaml", &anthropic).file("variants/gpt.yaml", &openai)
}

fn run(script: &str) -> Ran {
    let project = patient().file("script.yaml", script);
    let server = server(&project);
    variants(project, &server.url).run(&["scenarios/node_kill.yaml", "--variant", "claude", "--variant", "gpt"])
}

#[test]
fn a_model_repairs_a_node_in_both_wire_formats() {
    if require::program("bwrap").is_none() {
        return;
    }
    let ran = run(REPAIRS).exits(0);
    assert!(!ran.to_string().contains(KEY), "a key is shown nowhere");
    let trials = ran.trials();
    assert_eq!(trials.len(), 2, "{ran}");
    for trial in &trials {
        assert_eq!(trial.verdict(), Verdict::Pass, "{ran}");
        proven(trial, &ran);
        let told = trial.kinds.iter().find_map(|kind| match kind {
            EventKind::ConversationStarted { prompt, system, tools, .. } => Some((prompt, system, tools)),
            _ => None,
        });
        let (prompt, system, tools) = told.expect("a conversation");
        assert!(prompt.contains("\n* tikv1 (tikv), ") && prompt.contains("\n* stores on "), "{prompt}");
        assert!(!format!("{prompt}{system}").contains("node_kill"), "{prompt}");
        assert_eq!(tools, &["shell", "submit_diagnosis"]);
        let answers: Vec<&str> = trial
            .kinds
            .iter()
            .filter_map(|kind| match kind {
                EventKind::ModelDelayed { status: Some(529), .. } => Some("529"),
                EventKind::ModelAnswered { calls, .. } => Some(calls[0].tool.as_str()),
                EventKind::ToolAnswered { ok: false, tool, .. } => Some(tool.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(answers, ["529", "shell", "reboot", "shell", "submit_diagnosis"], "{ran}");
        let finished = trial.kinds.iter().find_map(|kind| match kind {
            EventKind::AgentFinished { end, turns, tokens, usd, .. } => Some((*end, *turns, *tokens, *usd)),
            _ => None,
        });
        let (end, turns, tokens, usd) = finished.expect("an end");
        assert_eq!((end, turns), (AgentEnd::Resolve, 3), "{ran}");
        assert!(tokens >= 3300 && usd >= 0.06, "{tokens} tokens, {usd} dollars");
    }
}

#[test]
fn failed_server_is_no_failure_of_the_agent() {
    if require::program("bwrap").is_none() {
        return;
    }
    let script = "turns:\n  - calls: [{ name: shell, arguments: { command: docker ps } }]\n  - error: { status: 500, times: 9 }\n";
    let ran = run(script).exits(5);
    for trial in ran.trials() {
        assert_eq!(trial.verdict(), Verdict::Invalid, "{ran}");
        let failed = |kind: &EventKind| matches!(kind, EventKind::ModelFailed { status: Some(500), attempts: 2, .. });
        assert!(trial.kinds.iter().any(failed), "{ran}");
        let cost = |kind: &EventKind| matches!(kind, EventKind::AgentFinished { end: AgentEnd::Error, tokens, usd, .. } if *tokens > 0 && *usd > 0.0);
        assert!(trial.kinds.iter().any(cost), "what it has cost is kept: {ran}");
    }
}

/// Model script that observes and waits, and does not change a network that recovers without a repair.
const WAITS: &str = r#"
key: sk-test-of-a-trial
turns:
  - text: I look.
    calls:
      - { name: shell, arguments: { command: docker ps -a, reasoning: Are all there? } }
      - { name: shell, arguments: { command: "docker stats --no-stream", reasoning: Is one busy? } }
  - calls: [{ name: shell, arguments: { command: sleep 1, reasoning: Does it pass? } }]
  - calls:
      - name: submit_diagnosis
        arguments: { root_cause: the network, component: tikv1, fault_class: network_latency, confidence: 0.6, outcome: no_action }
"#;

/// Returns the answers of the model, its delays and the results of commands, in the order of the events.
fn calls(trial: &Trial) -> Vec<String> {
    let called = |kind: &EventKind| match kind {
        EventKind::ModelAnswered { calls, stop, text, .. } => {
            let calls: Vec<String> = calls.iter().map(|call| format!("{} {}", call.tool, call.arguments)).collect();
            Some(format!("{stop}: {text}: {}", calls.join(", ")))
        }
        EventKind::ModelDelayed { status, .. } => Some(format!("again after {status:?}")),
        EventKind::CommandFinished { exit_code, .. } => Some(format!("exit code {exit_code}")),
        EventKind::DiagnosisSubmitted { diagnosis } => Some(format!("{} {}", diagnosis.component, diagnosis.fault_class)),
        EventKind::AgentFinished { end, turns, tokens, .. } => Some(format!("{end:?} after {turns} turns and {tokens} tokens")),
        _ => None,
    };
    // The evidence of a diagnosis is output of a command, which the model only repeated.
    trial.kinds.iter().filter_map(called).collect()
}

fn cassettes(project: &Project) -> PathBuf {
    project.path().join("cassettes")
}

/// Records a trial of `scenario` in each wire format, checks the cassettes, and replays them without a server.
fn recorded_and_replayed(project: Project, scenario: &str) -> Project {
    let server = server(&project);
    let project = variants(project, &server.url);
    let file = format!("scenarios/{scenario}.yaml");
    let live = project.run(&[&file, "--variant", "claude", "--variant", "gpt", "--seed", "3", "--record", "cassettes"]).exits(0);
    drop(server);
    fs::remove_file(project.path().join("key")).expect("removed");
    let mut names: Vec<String> =
        fs::read_dir(cassettes(&project)).expect("a folder").map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [format!("{scenario}.claude.3.jsonl"), format!("{scenario}.gpt.3.jsonl")]);
    for name in &names {
        assert!(!fs::read_to_string(cassettes(&project).join(name)).expect("it reads").contains(KEY), "a key is in no cassette");
    }
    let again = project.run(&[&file, "--replay", "cassettes"]).exits(0);
    let (recorded, replayed) = (live.trials(), again.trials());
    assert_eq!((recorded.len(), replayed.len()), (2, 2), "{again}");
    for (recorded, replayed) in recorded.iter().zip(&replayed) {
        assert_eq!((recorded.verdict(), replayed.verdict()), (Verdict::Pass, Verdict::Pass), "{again}");
        assert_eq!((&recorded.started.variant, recorded.started.seed), (&replayed.started.variant, replayed.started.seed));
        assert_ne!(recorded.started.subject, replayed.started.subject, "a recording is not the model");
        proven(recorded, &live);
        proven(replayed, &again);
        assert_eq!(calls(recorded), calls(replayed), "{live}\n{again}");
        let begun = |kind: &EventKind| matches!(kind, EventKind::CassetteStarted { records: false, of, .. } if of.starts_with(scenario));
        assert!(replayed.kinds.iter().any(begun), "{again}");
        let diverged = |kind: &EventKind| matches!(kind, EventKind::CassetteDiverged { told: false, .. });
        assert!(!replayed.kinds.iter().any(diverged), "{again}");
    }
    project
}

#[test]
fn repair_is_replayed_and_differences_are_reported() {
    if require::program("bwrap").is_none() {
        return;
    }
    let project = recorded_and_replayed(patient().file("script.yaml", REPAIRS), "node_kill");
    // There is no recording of another seed, and a recording is not overwritten.
    let other = project.run(&["scenarios/node_kill.yaml", "--replay", "cassettes", "--seed", "4"]).exits(3);
    assert!(other.stderr.contains("no cassette of `node_kill` with seed 4"), "{other}");
    let other = project.run(&["scenarios/pd_kill.yaml", "--replay", "cassettes"]).exits(3);
    assert!(other.to_string().contains("holds no session of the scenario `pd_kill`"), "{other}");

    // The same session, recorded with a model that had different instructions.
    let path = cassettes(&project).join("node_kill.claude.3.jsonl");
    let text = fs::read_to_string(&path).expect("a cassette");
    let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // The second exchange repeats the first one.
    for exchange in &mut lines[3..] {
        exchange["request"]["system"][0]["text"] = "Be quick.".into();
        exchange["hash"] = "another".into();
    }
    fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("written");
    let variant = |mode: &str| format!("provider: cassette\ncassette: cassettes\nof: claude\nmode: {mode}\n");
    let project = project.file("variants/strict.yaml", &variant("strict")).file("variants/lenient.yaml", &variant("lenient"));
    let ran = project.run(&["scenarios/node_kill.yaml", "--seed", "3", "--variant", "strict", "--variant", "lenient"]).exits(5);
    let diverged = |trial: &Trial| {
        trial.kinds.iter().find_map(|kind| match kind {
            EventKind::CassetteDiverged { told: false, exchange, place, recorded, fatal, .. } => {
                Some((*exchange, place.clone(), recorded.clone(), *fatal))
            }
            _ => None,
        })
    };
    let [strict, lenient] = &ran.trials()[..] else { panic!("{ran}") };
    let at = |fatal| Some((3, "system[0].text".to_owned(), r#""Be quick.""#.to_owned(), fatal));
    assert_eq!((strict.verdict(), diverged(strict)), (Verdict::Invalid, at(true)), "{ran}");
    let reason = strict.finished().reason.clone().expect("a reason");
    assert!(reason.blame == Some(Blame::Cassette) && reason.message.contains("system[0].text"), "{reason:?}");
    assert!(strict.finished().tokens > 0, "what it had cost is kept: {ran}");
    assert_eq!((lenient.verdict(), diverged(lenient)), (Verdict::Pass, at(false)), "{ran}");
    let shown = project.program("show").arg(&strict.id).run().exits(0);
    assert!(shown.stdout.contains("has no answer to this request") && shown.stdout.contains("cassette"), "{shown}");
}

/// Returns a project with a network fault in which only the fault causes delays, since the clocks of the stand-ins are slower than shipped.
/// A manual ticket starts the agent.
fn paged(scenario: &str, heal: &str) -> Project {
    let page = "page: { at: 1s, invariant: store_down, node: tikv1, text: it is slow }\n";
    let changes = [
        ("rate: 500", "rate: 50"),
        (heal, "heal: 6s"),
        ("repair_within: 30s, stable_for: 2s }\n", "repair_within: 60s, stable_for: 2s }\nPAGE"),
        ("limits: { wall: 20s, command: 5s }", "limits: { wall: 60s, command: 30s }"),
        ("PAGE", page),
    ];
    patient().changed(scenario, &changes)
}

#[test]
fn latency_is_waited_out_and_replayed() {
    if require::program("bwrap").is_none() {
        return;
    }
    recorded_and_replayed(paged("latency", "heal: 6s").file("script.yaml", WAITS), "latency");
}

#[test]
fn partition_is_waited_out_and_replayed() {
    if require::program("bwrap").is_none() {
        return;
    }
    recorded_and_replayed(paged("partition_minority", "heal: 4s").file("script.yaml", WAITS), "partition_minority");
}

/// Replays a cassette that is stored with the tests, without a key and without a server. `CHAOSRUN_BLESS=1` records the cassette again from
/// the fake server.
#[test]
fn stored_session_is_replayed() {
    if require::program("bwrap").is_none() {
        return;
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/cassettes/node_kill.claude.1.jsonl");
    if std::env::var_os("CHAOSRUN_BLESS").is_some() {
        let project = patient().file("script.yaml", REPAIRS);
        let server = server(&project);
        let project = variants(project, &server.url);
        project.run(&["scenarios/node_kill.yaml", "--variant", "claude", "--record", "kept.jsonl"]).exits(0);
        fs::create_dir_all(kept.parent().expect("a folder")).expect("made");
        fs::copy(project.path().join("kept.jsonl"), &kept).expect("copied");
    }
    let project = patient();
    fs::copy(&kept, project.path().join("kept.jsonl")).expect("copied");
    // A tool whose description has changed since is no reason to fail.
    let project = project.file("variants/kept.yaml", "provider: cassette\ncassette: kept.jsonl\nmode: lenient\n");
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "kept"]).exits(0);
    let trial = ran.trial();
    proven(&trial, &ran);
    let commands: Vec<String> = trial.commands().iter().map(|done| format!("{} -> {}", done.command, done.exit_code)).collect();
    assert!(commands.len() == 2 && commands[1].starts_with("docker start tikv") && commands[1].ends_with("-> 0"), "{commands:?}");
}

/// Cluster of two nodes, with an observation of their state.
const PAIR: &str = r#"
nodes:
  n: { count: 2, ports: { client: 4100 }, command: [sleep, "1000"] }
observe:
  runs: { on: each n, alive: true }
invariants:
  node_up: { each: runs, node: item.node, expect: item.ok }
"#;

#[test]
fn plan_prints_the_prompt_of_a_model() {
    let project = Project::new()
        .file("scenarios/clusters/pair.yaml", PAIR)
        .file("scenarios/use.yaml", "name: use\ncluster: clusters/pair.yaml\ngoal: nothing\nlimits: { wall: 90s, turns: 12 }\n")
        .file("prompts/late.md.j2", "{% if ticket.age_s > 5 %}It is late.{% endif %}\n")
        .file("variants/late.yaml", "provider: openai\nmodel: gpt-5.5\nprompt: prompts/late.md.j2\n");
    let plan = |args: &[&str]| project.program("plan").args(["scenarios/use.yaml", "--prompt"]).args(args).run();
    let told = plan(&["--variant", "kitchen"]).exits(0);
    insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("plan_prompt", told.stdout);
    });
    let request = plan(&["--variant", "kitchen", "--message-format", "json"]).exits(0);
    let request: serde_json::Value = serde_json::from_str(&request.stdout).expect("JSON");
    let (system, first) = (&request["request"]["system"][0]["text"], &request["request"]["messages"][0]["content"][0]["text"]);
    for text in [system, first] {
        assert!(told.stdout.contains(text.as_str().expect("a text")), "{text}");
    }
    assert_eq!(request["request"]["tools"].as_array().map(Vec::len), Some(2), "{request}");
    let nobody = plan(&["--variant", "noop"]).exits(6);
    assert!(nobody.stderr.contains("`noop` uses no model"), "{nobody}");
    let late = plan(&["--variant", "late"]).exits(3);
    assert!(late.to_string().contains("ticket.age_s > 5") && late.to_string().contains("before a trial runs"), "{late}");
}
