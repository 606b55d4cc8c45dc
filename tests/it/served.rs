//! Tests of the services for external agents: the Responses API, prompt lengths, and a budget shared by parallel requests.

use std::path::Path;

use chaosrun_event::{AgentEnd, EventKind, Usage, Verdict};

use super::program::{Live, Program, Project, Trial};
use super::require;
use super::trials::patient;

const KEY: &str = "sk-test-of-a-program";

/// Returns a project whose variant `own` is a shell script, and a running model server that follows `script`. The variant has models of
/// both wire formats.
fn project(agent: &str, limits: &str, script: &str) -> (Project, Live) {
    let project = patient().file("script.yaml", script).file("key", KEY).file("variants/agent.sh", agent);
    let mut live = Program::new().dir(project.path()).args(["node", "model", "script.yaml", "--log", "asked.jsonl"]).start();
    let url = live.until_line("printed its address", |line| line.starts_with("http://")).trim().to_owned();
    let rest = format!("key: {{ file: {} }}, price: {{ input: 10, output: 100, cache_read: 1 }} }}", project.path().join("key").display());
    let variant = format!(
        "provider: command\ncommand: [bash, $AGENT_FILES/agent.sh, $OPENAI_BASE_URL]\nfiles: {{ agent.sh: agent.sh }}\nmodels:\n  - \
         {{ provider: anthropic, names: [one], base_url: '{url}', {rest}\n  - {{ provider: openai, names: [other], base_url: '{url}/v1', \
         {rest}\n{limits}\n"
    );
    (project.file("variants/own.yaml", &variant), live)
}

fn said(trial: &Trial) -> Vec<&str> {
    fn line(kind: &EventKind) -> Option<&str> {
        if let EventKind::ProgramSaid { text, .. } = kind { Some(text) } else { None }
    }
    trial.kinds.iter().filter_map(line).collect()
}

/// Returns the text and the usage of each exchange, or the error of a failed exchange, in the order in which the exchanges end.
fn exchanges(trial: &Trial) -> Vec<(String, Usage, String)> {
    let exchange = |kind: &EventKind| match kind {
        EventKind::ModelAnswered { text, thinking, calls, usage, usd, .. } => {
            let calls: Vec<String> = calls.iter().map(|call| format!("{}{}", call.tool, call.arguments)).collect();
            Some((format!("{thinking}|{text}|{}", calls.join(" ")), *usage, format!("{usd:.5}")))
        }
        EventKind::ModelFailed { failure, status, .. } => {
            Some((format!("{failure} {}", status.unwrap_or(0)), Usage::default(), String::new()))
        }
        _ => None,
    };
    trial.kinds.iter().filter_map(exchange).collect()
}

fn asked(project: &Project) -> String {
    std::fs::read_to_string(Path::new(project.path()).join("asked.jsonl")).expect("a log")
}

const ASKS: &str = r#"
ask() { curl -sS "$@" -H 'content-type: application/json' -w '\n%{http_code}\n'; }
echo "served at $1"
ask "$ANTHROPIC_BASE_URL/v1/messages/count_tokens" -H 'anthropic-version: 2026-10-21' \
  -d '{"model":"one","messages":[{"role":"user","content":"how long is this"}]}'
tool='"tools":[{"type":"namespace","name":"functions","description":"","tools":[{"type":"custom","name":"exec"}]}]'
ask -N "$OPENAI_BASE_URL/responses" -d '{"model":"other","stream":true,"input":"go","reasoning":{"summary":"auto"},'$tool'}'
ask "$OPENAI_BASE_URL/responses" -d '{"model":"other","input":[{"role":"user","content":"again"}]}'
ask "$OPENAI_BASE_URL/responses" -d '{"model":"other","input":[]}'
ask "$OPENAI_BASE_URL/responses" -d '{"model":"unknown","input":"x"}'
docker ps -aq --filter status=exited | xargs docker start
echo '{"type":"end","outcome":"resolved"}'
"#;

#[test]
fn responses_are_forwarded_counted_and_replayed() {
    if require::program("bwrap").is_none() {
        return;
    }
    let usage = "usage: { input: 1000, output: 100, cache_read: 500, cache_write: 0, thinking: 40 }";
    let script = format!(
        "key: {KEY}\nturns:\n  - {{ when: first == 'go', thinking: Hm., text: I look., calls: [{{ name: exec, raw: text(1) }}], {usage} }}\n  \
         - {{ when: first == 'again', text: Again., {usage} }}\n"
    );
    let (project, live) = project(ASKS, "", &script);
    let tapes = project.path().join("tapes").display().to_string();
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "own", "--record", &tapes]).exits(0);
    assert!(!ran.to_string().contains(KEY), "{ran}");
    let trial = ran.trial();
    assert_eq!(trial.verdict(), Verdict::Pass, "{ran}");
    let told = Usage { input: 1000, output: 100, cache_read: 500, thinking: 40, ..Usage::default() };
    let none = |word: &str| (word.to_owned(), Usage::default(), String::new());
    let usd = "0.02050".to_owned();
    let expected = [
        ("Hm.|I look.|functions.exec{\"input\":\"text(1)\"}".to_owned(), told, usd.clone()),
        ("|Again.|".to_owned(), told, usd),
        none("request 400"),
        none("model 404"),
    ];
    assert_eq!(exchanges(&trial), expected, "{ran}");
    let lines = said(&trial);
    assert_eq!(lines[..3], ["served at http://127.0.0.1:8001/v1", r#"{"input_tokens":12}"#, "200"], "{lines:#?}");
    for piece in ["event: response.completed", "event: response.custom_tool_call_input.done"] {
        assert!(lines.contains(&piece), "{lines:#?}");
    }
    assert!(lines.iter().any(|line| line.contains(r#""code":"model_not_found""#)), "{lines:#?}");
    assert_eq!(asked(&project).lines().count(), 4, "a model that is not served is asked by nobody: {}", asked(&project));

    drop(live);
    let again = project.run(&["scenarios/node_kill.yaml", "--replay", &tapes]).exits(0);
    let trial = again.trial();
    assert_eq!(exchanges(&trial), expected, "{again}");
    // Ids of containers differ between clusters.
    let words = |lines: &[&str]| {
        lines.iter().filter(|line| !line.chars().all(|c| c.is_ascii_hexdigit())).map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(words(&said(&trial)), words(&lines), "every byte that was served is served again, lengths of prompts included");
}

#[test]
fn parallel_requests_do_not_exceed_the_budget_together() {
    if require::program("bwrap").is_none() {
        return;
    }
    let agent = r#"
ask() { curl -sS "$OPENAI_BASE_URL/responses" -H 'content-type: application/json' -d '{"model":"other","max_output_tokens":900,"input":"'$1'"}'; }
ask one & ask two &
wait; sleep 1000
"#;
    let usage = "usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }";
    // Each request takes so long that the other one overlaps it.
    let script = format!("key: {KEY}\nturns: [{{ text: I hear., latency: 2s, {usage} }}]\n");
    let (project, _live) = project(agent, "limits: { tokens: 1000 }", &script);
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "own"]).exits(4);
    let trial = ran.trial();
    let words: Vec<String> = exchanges(&trial).into_iter().map(|(word, ..)| word).collect();
    assert_eq!(words, ["|I hear.|", "quota 429"], "{ran}");
    let waited = |kind: &EventKind| matches!(kind, EventKind::ModelDelayed { why, .. } if why.contains("budget"));
    assert_eq!(trial.kinds.iter().filter(|kind| waited(kind)).count(), 1, "{ran}");
    let end = trial.kinds.iter().find_map(|kind| match kind {
        EventKind::AgentFinished { end, detail, tokens, .. } => Some((*end, detail.as_str(), *tokens)),
        _ => None,
    });
    assert_eq!(end, Some((AgentEnd::Limit, "the limit of 1000 tokens was reached", 1100)), "{ran}");
    assert_eq!(asked(&project).lines().count(), 1, "one was asked, and the other not: {}", asked(&project));
}
