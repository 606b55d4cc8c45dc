//! Tests of failures of a model and its server in whole trials of a killed node. Each failure must give the correct verdict.

use std::fmt::Write as _;

use chaosrun_event::{AgentEnd, Blame, EventKind, Verdict};
use nix::sys::signal::Signal;

use super::models::{Server, server};
use super::program::{Program, Project, Trial};
use super::require;
use super::trials::patient;

/// Cluster of one process, with an observation of the state of that process.
const CLUSTER: &str = r#"
nodes:
  n:
    command: [sleep, "1000"]
observe:
  runs: { on: each n, alive: true }
invariants:
  node_up: { each: runs, node: item.node, expect: item.ok, severity: critical }
"#;

/// Scenario with a killed node. No agent restarts the node, so an agent that ends its session has failed, whatever the time.
const SCENARIO: &str = r"
name: down
cluster: clusters/one.yaml
goal: repair
timing: { steady_for: 0s, ready_within: 120s, detect_within: 60s, repair_within: 1s, stable_for: 0s }
chaos: { kill: { inject: { node_kill: { target: n } }, heal: agent } }
limits: { wall: 120s, command: 60s }
agent: { variant: noop }
";

struct Row {
    /// Name of the tested failure, used for its variant and its model.
    name: &'static str,
    /// Script for the behaviour of the server after the first turn, or in all turns.
    turn: String,
    /// Further lines of the variant's file.
    variant: &'static str,
    /// True if both wire formats are tested, false if only `anthropic` is tested.
    both: bool,
    verdict: Verdict,
    end: AgentEnd,
    /// Expected party to blame. `None` if the agent is to blame.
    blame: Option<&'static str>,
}

impl Row {
    fn of(name: &'static str, turn: impl Into<String>, verdict: Verdict, end: AgentEnd) -> Self {
        Self { name, turn: turn.into(), variant: "", both: false, verdict, end, blame: None }
    }
}

fn invalid(name: &'static str, turn: impl Into<String>, blame: &'static str) -> Row {
    Row { both: true, blame: Some(blame), ..Row::of(name, turn, Verdict::Invalid, AgentEnd::Error) }
}

fn status(name: &'static str, status: u16, blame: &'static str) -> Row {
    invalid(name, format!("error: {{ status: {status}, times: 99 }}"), blame)
}

fn failed(name: &'static str, turn: &str) -> Row {
    Row { both: true, ..Row::of(name, turn, Verdict::Fail, AgentEnd::Escalate) }
}

fn limited(name: &'static str, turn: &str, variant: &'static str) -> Row {
    Row { variant, ..Row::of(name, turn, Verdict::Timeout, AgentEnd::Limit) }
}

fn rows() -> Vec<Row> {
    let shell = |command: &str| format!(r#"calls: [{{ name: shell, arguments: {{ command: "{command}" }} }}]"#);
    let wall = Row { variant: "limits: { wall: 10s, command: 10s }\n", ..invalid("silent_for_good", "latency: 1000s", "provider") };
    vec![
        // A wrong request is caused by chaosrun or the variant; all other errors by the server.
        status("s400", 400, "environment"),
        status("s422", 422, "environment"),
        status("s401", 401, "provider"),
        status("s403", 403, "provider"),
        status("s404", 404, "provider"),
        status("s408", 408, "provider"),
        status("s409", 409, "provider"),
        status("s429", 429, "provider"),
        status("s500", 500, "provider"),
        status("s503", 503, "provider"),
        status("s529", 529, "provider"),
        invalid("cut", "text: As long as it takes to be cut.\n    cut: { at: 60 }", "provider"),
        invalid("cut_clean", "text: As long as it takes to be cut.\n    cut: { at: 60, clean: true }", "provider"),
        invalid("malformed", "text: As long as it takes to be told in pieces.\n    malformed: { at: 2 }", "provider"),
        Row { variant: "patience: 500ms\n", ..invalid("silent", "latency: 1000s", "provider") },
        // The limit of the agent was exceeded, mostly by the time of the server.
        Row { both: false, ..wall },
        failed("bad_arguments", "calls: [{ name: shell, raw: '{\"command\": ' }]"),
        failed("no_such_tool", "calls: [{ name: reboot, arguments: {} }]"),
        failed("refusal", "refusal: { category: cyber, explanation: Not this. }"),
        failed("only_talks", "text: All is well."),
        failed("says_nothing", "stop: end_turn"),
        failed("cut_off", &format!("{}\n    stop: max_tokens", shell("true"))),
        failed("repeats", &shell("true")),
        Row { both: false, ..failed("pauses", "text: hm\n    stop: pause_turn") },
        limited("overflows", "error: { status: 400, message: 'prompt is too long: 9 tokens > 8 maximum', times: 99 }", ""),
        limited("too_large", "error: { status: 413, times: 99 }", ""),
        limited("turns", &shell("echo {{ turn }}"), "limits: { turns: 3 }\n"),
        limited("tokens", &shell("echo {{ turn }}"), "limits: { tokens: 3k }\n"),
        limited("dollars", &shell("echo {{ turn }}"), "limits: { usd: 0.05 }\n"),
        limited("wall", &shell("sleep 1000"), "limits: { wall: 8s, command: 8s }\n"),
    ]
}

/// Returns a script for the models of all rows. The first answer of a model is a command, which costs something. The row defines all later
/// answers.
fn script(rows: &[Row]) -> String {
    let mut script = "turns:\n".to_owned();
    let usage = "usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }";
    for row in rows {
        let name = row.name;
        if name != "silent_for_good" {
            let first = r"calls: [{ name: shell, arguments: { command: docker ps -a } }]";
            let _ = writeln!(
                script,
                "  - when: model == '{name}' and 'exit code' not in last and 'error:' not in last and turn == 1\n    {first}\n    {usage}"
            );
        }
        let _ = writeln!(script, "  - when: model == '{name}'\n    repeat: true\n    {}\n    {usage}", row.turn);
    }
    script
}

fn variants(mut project: Project, rows: &[Row], server: &Server) -> (Project, Vec<String>) {
    let mut names = Vec::new();
    for row in rows {
        for provider in if row.both { &["anthropic", "openai"][..] } else { &["anthropic"] } {
            let (name, url) = (format!("{}_{provider}", row.name), &server.url);
            let url = if *provider == "openai" { format!("{url}/v1") } else { url.clone() };
            let key = project.path().join(format!("key_{name}"));
            // One key per row, so that a limit on one does not affect the others.
            project = project.file(&format!("key_{name}"), &format!("sk-test-{name}")).file(
                &format!("variants/{name}.yaml"),
                &format!(
                    "provider: {provider}\nmodel: {}\nbase_url: {url}\nkey: {{ file: {} }}\nprice: {{ input: 10, output: 100 }}\nretries: 1\n{}",
                    row.name,
                    key.display(),
                    row.variant
                ),
            );
            names.push(name);
        }
    }
    (project, names)
}

fn agent(trial: &Trial) -> (AgentEnd, String, u64, f64) {
    let end = trial.kinds.iter().find_map(|kind| match kind {
        EventKind::AgentFinished { end, detail, tokens, usd, .. } => Some((*end, detail.clone(), *tokens, *usd)),
        _ => None,
    });
    end.expect("an agent that began has an end")
}

#[test]
fn every_failure_has_its_verdict_and_records_its_cost() {
    if require::program("bwrap").is_none() {
        return;
    }
    let rows = rows();
    let project = Project::new().file("scenarios/clusters/one.yaml", CLUSTER).file("scenarios/down.yaml", SCENARIO);
    let project = project.file("script.yaml", &script(&rows));
    let server = server(&project);
    let (project, names) = variants(project, &rows, &server);
    let mut args = vec!["scenarios/down.yaml", "--jobs", "3"];
    args.extend(names.iter().flat_map(|name| ["--variant", name.as_str()]));
    let ran = project.run(&args).exits(4);
    let trials = ran.trials();
    assert_eq!(trials.len(), names.len(), "{ran}");
    let mut wrong = String::new();
    for trial in &trials {
        let name = &trial.started.variant;
        let row = rows.iter().find(|row| name.rsplit_once('_').is_some_and(|(of, _)| of == row.name)).expect("a row");
        let (end, detail, tokens, usd) = agent(trial);
        let finished = trial.finished();
        let blame = finished.reason.as_ref().and_then(|reason| reason.blame).map(Blame::word);
        let paid = row.name == "silent_for_good" || tokens > 0 && usd > 0.0;
        let kept = finished.tokens == tokens && (finished.usd - usd).abs() < 1e-12;
        if (finished.verdict, end, blame) != (row.verdict, row.end, row.blame) || !paid || !kept {
            let _ = writeln!(
                wrong,
                "{name}: {} {end:?} {blame:?}, {tokens} tokens, {usd} dollars: {detail}; wanted {} {:?} {:?}",
                finished.verdict.as_str(),
                row.verdict.as_str(),
                row.end,
                row.blame
            );
        }
        // The trial does not wait for an objective that cannot be judged.
        let waited = trial.kinds.iter().any(|kind| matches!(kind, EventKind::PhaseStarted { phase } if phase.as_str() == "settle"));
        assert_eq!(waited, row.verdict != Verdict::Invalid, "{name}: {ran}");
    }
    assert!(wrong.is_empty(), "{wrong}\n{ran}");
}

#[test]
fn interrupted_session_records_its_actions_and_cost() {
    if require::program("bwrap").is_none() {
        return;
    }
    let rows = [Row { both: false, ..invalid("hangs", "latency: 1000s", "interrupted") }];
    let project = Project::new().file("scenarios/clusters/one.yaml", CLUSTER).file("scenarios/down.yaml", SCENARIO);
    let project = project.file("script.yaml", &script(&rows));
    let server = server(&project);
    let (project, names) = variants(project, &rows, &server);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut live = project.program("run").args(["scenarios/down.yaml", "--variant", &names[0]]).json().start();
        live.until("told its result", |kind| matches!(kind, EventKind::ToolAnswered { .. }));
        live.signal(signal);
        let ran = live.wait().exits(130);
        let trial = ran.trial();
        let (end, _, tokens, usd) = agent(&trial);
        assert_eq!((end, trial.verdict(), trial.commands().len()), (AgentEnd::Interrupted, Verdict::Invalid, 1), "{ran}");
        assert!(tokens >= 1100 && usd > 0.0 && trial.finished().tokens == tokens, "{ran}");
        let reason = trial.finished().reason.as_ref().and_then(|reason| reason.blame).map(Blame::word);
        assert_eq!(reason, Some("interrupted"), "{ran}");
    }
}

#[test]
fn missing_bash_is_reported_before_the_start() {
    let project = patient();
    let bare = project.path().join("bin");
    std::fs::create_dir(&bare).expect("made");
    let run = |variant: &str| {
        let program = project.program("run").args(["scenarios/node_kill.yaml", "--variant", variant]);
        program.env("PATH", &bare).run()
    };
    let ran = run("playbook").exits(5);
    assert!(ran.stderr.contains("no `bash` in PATH: the agent of the variant `playbook` needs it"), "{ran}");
    assert!(ran.stderr.contains("install bash, or use `--backend docker`"), "{ran}");
    let ran = Program::new().dir(project.path()).arg("doctor").env("PATH", &bare).run();
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("no `bash` in PATH: agents need it"), "{ran}");
}
