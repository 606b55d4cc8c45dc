//! Tests of popular command-line agents, if they are installed: the variants of the documentation in real trials.

use std::path::Path;

use chaosrun_event::{AgentEnd, EventKind, Verdict};

use super::program::{Live, Program, Project, Trial};
use super::require;
use super::trials::{patient, proven};

const KEY: &str = "sk-test-of-an-agent";

/// Model script that repairs the node, and submits a diagnosis through the tools of the variant. The agent program has to search for these
/// tools before it can use them.
const CLAUDE_CODE: &str = r#"
key: sk-test-of-an-agent
capture: { node: { pattern: 'Node: (\w+)' } }
turns:
  - text: I look.
    calls: [{ name: Bash, arguments: { command: docker ps -a, description: Which are there? } }]
  - calls: [{ name: Bash, arguments: { command: "docker start {{ node }}", description: It has ended. } }]
  - calls: [{ name: ToolSearch, arguments: { query: "select:mcp__tools__submit_diagnosis", max_results: 1 } }]
  - calls:
      - name: mcp__tools__submit_diagnosis
        arguments: { root_cause: it was killed, component: "{{ node }}", fault_class: process_crash, confidence: 0.9, outcome: resolved }
  - { text: It is back. }
"#;

/// Model script for an agent whose tool is a JavaScript program that calls the other tools as functions.
const CODEX: &str = r#"
key: sk-test-of-an-agent
capture: { node: { pattern: 'Node: (\w+)' } }
turns:
  - text: I look.
    calls: [{ name: exec, raw: 'text((await tools.exec_command({ cmd: "docker ps -a" })).output)' }]
  - calls: [{ name: exec, raw: 'text((await tools.exec_command({ cmd: "docker start {{ node }}" })).output)' }]
  - calls:
      - name: exec
        raw: |
          const said = await tools.mcp__tools__submit_diagnosis({
            root_cause: "it was killed", component: "{{ node }}", fault_class: "process_crash", confidence: 0.9, outcome: "resolved",
          });
          text(said);
  - { text: It is back. }
"#;

fn server(project: &Project) -> (Live, String) {
    let mut live = Program::new().dir(project.path()).args(["node", "model", "script.yaml", "--log", "asked.jsonl"]).start();
    let url = live.until_line("printed its address", |line| line.starts_with("http://")).trim().to_owned();
    (live, url)
}

fn repaired(trial: &Trial, why: &super::program::Ran) {
    assert_eq!(trial.verdict(), Verdict::Pass, "{why}");
    proven(trial, why);
    let ended = trial.kinds.iter().find_map(|kind| match kind {
        EventKind::AgentFinished { end, detail, .. } => Some((*end, detail.as_str())),
        _ => None,
    });
    assert_eq!(ended, Some((AgentEnd::Resolve, "it was killed")), "{why}");
    let started = |kind: &EventKind| matches!(kind, EventKind::EngineCall { verb, status: 204, .. } if verb == "start");
    assert!(trial.kinds.iter().any(started), "{why}");
    let diagnosed =
        |kind: &EventKind| matches!(kind, EventKind::DiagnosisSubmitted { diagnosis } if diagnosis.fault_class == "process_crash");
    assert!(trial.kinds.iter().any(diagnosed), "{why}");
    let failed = |kind: &EventKind| matches!(kind, EventKind::ModelFailed { .. } | EventKind::EndpointAsked { .. });
    assert!(!trial.kinds.iter().any(failed), "nothing was asked in vain: {why}");
}

fn spent(trial: &Trial) -> (u64, f64) {
    let found = trial.kinds.iter().find_map(|kind| match kind {
        EventKind::AgentFinished { tokens, usd, .. } => Some((*tokens, *usd)),
        _ => None,
    });
    found.expect("an end of the agent")
}

/// Runs the documented variant of an agent program with a model that follows `script`, then again with the recorded cassette.
fn repairs_a_node(name: &str, program: &str, base: &str, script: &str) {
    if require::program("bwrap").is_none() || require::installed(program).is_none() {
        return;
    }
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/examples/agents/{name}.yaml")));
    // Such a program needs seconds to start.
    let slower = [("wall: 30s", "wall: 120s"), ("repair_within: 30s", "repair_within: 120s")];
    let project = patient().again("node_kill", &slower).file("script.yaml", script).file("key", KEY);
    let (live, url) = server(&project);
    let served = format!("], base_url: '{url}{base}', key: {{ file: {} }} }}", project.path().join("key").display());
    let variant = text.expect("an example").replace("] }", &served);
    assert!(variant.contains(&served), "{variant}");
    let project = project.file(&format!("variants/{name}.yaml"), &variant);
    let tapes = project.path().join("tapes").display().to_string();
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", name, "--record", &tapes]).exits(0);
    assert!(!ran.to_string().contains(KEY), "a key is shown nowhere");
    let trial = ran.trial();
    repaired(&trial, &ran);
    assert!(spent(&trial).1 > 0.0, "{ran}");

    // Second run, without the model.
    drop(live);
    let ran = project.run(&["scenarios/node_kill.yaml", "--replay", &tapes]).exits(0);
    let again = ran.trial();
    repaired(&again, &ran);
    assert_eq!(spent(&again).0, spent(&trial).0, "what it had cost is counted as then: {ran}");
}

#[test]
fn claude_code_repairs_a_node() {
    repairs_a_node("claude_code", "claude", "", CLAUDE_CODE);
}

#[test]
fn codex_repairs_a_node() {
    repairs_a_node("codex", "codex", "/v1", CODEX);
}
