//! Tests of external agents: the agent programs of the examples in real trials, the services for agent programs, and their restrictions.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use chaosrun_event::{AgentEnd, EventKind, Verdict};

use super::program::{Live, Program, Project, Ran, Trial};
use super::require;
use super::trials::{patient, proven};

const KEY: &str = "sk-test-of-a-program";

const REPAIRS: &str = r#"
key: sk-test-of-a-program
capture:
  node: { pattern: 'Node: (\w+)' }
turns:
  - text: I look.
    calls: [{ name: shell, arguments: { command: docker ps -a, reasoning: Which are there? } }]
    usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }
  - calls:
      - name: shell
        arguments: { command: "docker start {{ node }}; (env; cat /proc/*/environ /proc/*/cmdline) 2>/dev/null | tr '\\0' '\\n'" }
    usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }
  - calls:
      - name: done
        arguments: { root_cause: it was killed, component: "{{ node }}", fault_class: process_crash, confidence: 0.9, outcome: resolved }
    usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }
"#;

fn example(project: Project, name: &str) -> Project {
    let text = std::fs::read_to_string(format!("{}/docs/examples/agents/{name}", env!("CARGO_MANIFEST_DIR"))).expect("an example");
    project.file(&format!("variants/{name}"), &text)
}

fn server(project: &Project) -> (Live, String) {
    let mut live = Program::new().dir(project.path()).args(["node", "model", "script.yaml", "--log", "asked.jsonl"]).start();
    let url = live.until_line("printed its address", |line| line.starts_with("http://")).trim().to_owned();
    (live, url)
}

fn ended(trial: &Trial) -> (AgentEnd, String, u64, f64) {
    let found = trial.kinds.iter().find_map(|kind| match kind {
        EventKind::AgentFinished { end, detail, tokens, usd, .. } => Some((*end, detail.clone(), *tokens, *usd)),
        _ => None,
    });
    found.expect("an end of the agent")
}

/// Returns all output lines of an agent program in a trial.
fn said(trial: &Trial) -> String {
    let line = |kind: &EventKind| match kind {
        EventKind::ProgramSaid { text, .. } => Some(format!("{text}\n")),
        _ => None,
    };
    trial.kinds.iter().filter_map(line).collect()
}

/// Runs one trial whose external agent is the shell script `agent`. The model server follows `script`.
fn scripted(agent: &str, rest: &str, script: &str) -> (Project, Ran) {
    let project = patient().file("script.yaml", script).file("key", KEY).file("variants/agent.sh", agent);
    let (_live, url) = server(&project);
    let key = project.path().join("key");
    let variant = format!(
        "provider: command\ncommand: [bash, $AGENT_FILES/agent.sh]\nfiles: {{ agent.sh: agent.sh }}\nmodels:\n  - {{ provider: anthropic, \
         names: [some-model], base_url: '{url}', key: {{ file: {key} }}, price: {{ input: 10, output: 100 }} }}\n{rest}\n",
        key = key.display()
    );
    let project = project.file("variants/own.yaml", &variant);
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "own"]);
    (project, ran)
}

#[test]
fn a_shell_agent_and_a_python_agent_repair_a_node() {
    if require::program("bwrap").is_none() || require::program("python3").is_none() {
        return;
    }
    let project = patient().file("script.yaml", REPAIRS).file("key", KEY);
    let project = ["shell.yaml", "shell.sh", "agent.py", "python.yaml"].into_iter().fold(project, example);
    let (live, url) = server(&project);
    let (key, python) = (project.path().join("key"), project.path().join("variants/python.yaml"));
    let served = format!("names: [claude-sonnet-5-5], base_url: '{url}', key: {{ file: {} }} }}", key.display());
    let text = std::fs::read_to_string(&python).expect("reads").replace("names: [claude-sonnet-5-5] }", &served);
    // The system's own program: other folders of a PATH are not in the sandbox.
    let text = text.replace("[python3,", "[/usr/bin/python3,");
    assert!(text.contains(&served), "{text}");
    let project = project.file("variants/python.yaml", &text);
    let tapes = project.path().join("tapes").display().to_string();
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "shell", "--variant", "python", "--record", &tapes]).exits(0);
    assert!(!ran.to_string().contains(KEY), "a key is shown nowhere, though the agent has looked for it");
    let trials = ran.trials();
    assert_eq!(trials.len(), 2, "{ran}");
    for trial in &trials {
        assert_eq!(trial.verdict(), Verdict::Pass, "{ran}");
        proven(trial, &ran);
        assert_eq!(ended(trial).0, AgentEnd::Resolve, "{ran}");
        assert!(
            trial
                .kinds
                .iter()
                .any(|kind| matches!(kind, EventKind::DiagnosisSubmitted { diagnosis } if diagnosis.fault_class == "process_crash"))
        );
        let ran_itself = |kind: &EventKind| matches!(kind, EventKind::CommandStarted { reported: true, command, .. } if command.starts_with("docker start"));
        assert!(trial.kinds.iter().any(ran_itself), "{ran}");
        let mediated = |kind: &EventKind| matches!(kind, EventKind::EngineCall { verb, status: 204, .. } if verb == "start");
        assert!(trial.kinds.iter().any(mediated), "what it did is seen, whatever it says: {ran}");
        let seen = trial.commands().iter().map(|done| done.stdout.text.to_lowercase()).collect::<String>();
        assert!(!seen.contains("chaosrun"), "{seen}");
    }
    assert!(said(&trials[0]).starts_with("the prompt has "), "{ran}");
    let python = &trials[1];
    let (_, _, tokens, usd) = ended(python);
    assert_eq!(tokens, 3300, "{ran}");
    assert!((usd - (3000.0 * 2.0 + 300.0 * 10.0) / 1e6).abs() < 1e-9, "{usd}");
    assert_eq!(exchanges(python), ["asked", "shell", "asked", "shell", "asked", "done"], "{ran}");
    let asked = std::fs::read_to_string(project.path().join("asked.jsonl")).expect("a log");
    assert_eq!(asked.lines().count(), 3, "{asked}");
    assert!(asked.contains("I look.") && asked.contains("exit code 0"), "the conversation came through as it was: {asked}");

    // Second run, without the model: the recording answers its program.
    drop(live);
    let tape = std::fs::read_to_string(project.path().join("tapes/node_kill.python.1.jsonl")).expect("the only one that asks a model");
    assert!(!tape.contains(KEY) && tape.contains("I look."), "{tape}");
    let again = project.run(&["scenarios/node_kill.yaml", "--replay", &tapes]).exits(0);
    let again = &again.trials()[0];
    assert_eq!((again.name(), again.verdict()), (python.name(), Verdict::Pass));
    assert_eq!(exchanges(again), exchanges(python));
    assert_eq!(ended(again).2, tokens, "what it had cost is counted as then");
    assert!(again.kinds.iter().any(|kind| matches!(kind, EventKind::CassetteStarted { records: false, .. })));
}

/// Returns descriptions of the exchanges between an agent program and its model, in order.
fn exchanges(trial: &Trial) -> Vec<&str> {
    fn word(kind: &EventKind) -> Option<&str> {
        match kind {
            EventKind::ModelAsked { .. } => Some("asked"),
            EventKind::ModelAnswered { calls, .. } => Some(calls[0].tool.as_str()),
            _ => None,
        }
    }
    trial.kinds.iter().filter_map(word).collect()
}

#[test]
fn budget_is_enforced_on_the_wire_and_other_endpoints_are_refused() {
    if require::program("bwrap").is_none() {
        return;
    }
    let allowed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = allowed.local_addr().expect("an address");
    let (give, served) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (mut client, _) = allowed.accept().expect("a client");
        let mut request = [0; 1024];
        let read = client.read(&mut request).expect("a request");
        client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n").expect("answered");
        give.send(String::from_utf8_lossy(&request[..read]).into_owned()).expect("somebody waits");
    });
    let agent = format!(
        r#"curl -sS --noproxy '' 'http://{at}/path?x=1'
curl -sS http://example.com/ -w '%{{http_code}}\n'
curl -sS https://example.com/ 2>&1
ask() {{ curl -sS $2 "$ANTHROPIC_BASE_URL/v1/messages" -H 'content-type: application/json' -H 'anthropic-version: 2026-10-21' \
  -w '\n%{{http_code}}\n' -d '{{"model":"'$1'","max_tokens":100,"messages":[{{"role":"user","content":"hello"}}]'$3'}}'; }}
ask other-model
ask some-model -N ',"stream":true'
ask some-model
sleep 20; echo not reached; sleep 1000
"#
    );
    let rest = format!("endpoints: ['{at}']\nlimits: {{ tokens: 1000 }}");
    let usage = "usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }";
    let (project, ran) = scripted(&agent, &rest, &format!("key: {KEY}\nturns: [{{ text: I hear., repeat: true, {usage} }}]\n"));
    let trial = ran.exits(4).trial();
    assert_eq!(trial.verdict(), Verdict::Timeout, "{trial:#?}");
    let request = served.try_recv().expect("it was asked before the agent ended");
    assert!(request.starts_with("GET /path?x=1 HTTP/1.1\r\n") && request.to_lowercase().contains(&format!("host: {at}")), "{request}");
    let said = said(&trial);
    assert!(said.contains("hello\n") && said.contains("`example.com:80` is not allowed") && said.contains("403\n"), "{said}");
    assert!(said.contains("not_found_error") && said.contains("event: message_stop") && !said.contains("not reached"), "{said}");
    let endpoints: Vec<(String, bool)> = trial
        .kinds
        .iter()
        .filter_map(|kind| match kind {
            EventKind::EndpointAsked { target, allowed, .. } => Some((target.clone(), *allowed)),
            _ => None,
        })
        .collect();
    let refused = |name: &str| (name.to_owned(), false);
    assert_eq!(endpoints, [(at.to_string(), true), refused("example.com:80"), refused("example.com:443")], "{said}");
    let (end, detail, tokens, usd) = ended(&trial);
    assert_eq!((end, detail.as_str(), tokens), (AgentEnd::Limit, "the limit of 1000 tokens was reached", 1100), "{trial:#?}");
    assert!((usd - 0.02).abs() < 1e-9, "{usd}");
    let outcomes: Vec<String> = trial
        .kinds
        .iter()
        .filter_map(|kind| match kind {
            EventKind::ModelAnswered { text, .. } => Some(text.clone()),
            EventKind::ModelFailed { failure, status, .. } => Some(format!("{failure} {}", status.unwrap_or(0))),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, ["model 404", "I hear.", "quota 403"], "{trial:#?}");
    let asked = std::fs::read_to_string(project.path().join("asked.jsonl")).expect("a log");
    assert_eq!(asked.lines().count(), 1, "neither the wrong model nor what is beyond the limit was asked: {asked}");
}

#[test]
fn crashed_agent_or_missing_model_is_no_failure() {
    if require::program("bwrap").is_none() {
        return;
    }
    let (_project, ran) = scripted("echo oh no >&2; exit 3\n", "", "turns: [{ text: x }]\n");
    let trial = ran.exits(5).trial();
    assert_eq!(trial.verdict(), Verdict::Invalid, "{trial:#?}");
    let (end, detail, ..) = ended(&trial);
    assert_eq!((end, detail.as_str()), (AgentEnd::Error, "the agent's program ended with exit code 3: oh no"));
    assert!(
        trial
            .kinds
            .iter()
            .any(|kind| matches!(kind, EventKind::ProgramEnded { exit_code: Some(3), stderr, .. } if stderr.text == "oh no\n"))
    );

    let asks = r#"curl -sS "$ANTHROPIC_BASE_URL/v1/messages" -H 'content-type: application/json' -H 'anthropic-version: 2026-10-21' \
  -d '{"model":"some-model","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}'"#;
    let failing = format!("key: {KEY}\nturns: [{{ error: {{ status: 401, message: no such key {KEY}, times: 9 }} }}]\n");
    let (_project, ran) = scripted(&format!("{asks}\n"), "", &failing);
    let ran = ran.exits(5);
    assert!(!ran.to_string().contains(KEY), "{ran}");
    let trial = ran.trial();
    assert_eq!(ended(&trial).0, AgentEnd::Error, "{ran}");
    assert!(ended(&trial).1.contains("after its model failed"), "{ran}");
}

#[test]
fn invalid_request_is_blamed_on_the_program_and_an_outage_is_not() {
    if require::program("bwrap").is_none() {
        return;
    }
    let ask = |model: &str, rest: &str| {
        let body = format!(r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":"hello"}}]{rest}}}"#);
        format!(
            "curl -sS \"$ANTHROPIC_BASE_URL/v1/messages\" -H 'content-type: application/json' -H 'anthropic-version: 2026-10-21' -d '{body}'"
        )
    };
    let searching = ask("some-model", r#","tools":[{"type":"web_search_20250305","name":"web_search"}]"#);
    let wrongly = format!("{}\n{searching}\n", ask("another-model", ""));
    let (_project, ran) = scripted(&wrongly, "limits: { wall: 8s }", "turns: [{ text: x }]\n");
    let trial = ran.trial();
    assert!(said(&trial).contains("runs on the model's server"), "{ran}");
    assert_eq!((ended(&trial).0, trial.verdict()), (AgentEnd::Resolve, Verdict::Fail), "{ran}");

    let patiently = format!("while :; do {} > /dev/null; sleep 0.2; done\n", ask("some-model", ""));
    let (_project, ran) = scripted(&patiently, "limits: { wall: 8s }", "turns: [{ error: { status: 529, times: 9999 } }]\n");
    let trial = ran.exits(5).trial();
    let (end, detail, ..) = ended(&trial);
    assert_eq!((end, trial.verdict()), (AgentEnd::Error, Verdict::Invalid), "{trial:#?}");
    assert!(detail.contains("waiting for the model server"), "{detail}");
}

#[test]
fn agent_ends_at_its_limit_with_all_its_processes() {
    if require::program("bwrap").is_none() {
        return;
    }
    let name = format!("remains{}", std::process::id());
    let agent = format!("setsid bash -c 'exec -a {name} sleep 1000' >/dev/null 2>&1 &\nyes &\nexec sleep 1000\n");
    let (_project, ran) = scripted(&agent, "limits: { wall: 3s, command: 1s }", "turns: [{ text: x }]\n");
    let trial = ran.exits(4).trial();
    assert_eq!((trial.verdict(), ended(&trial).0), (Verdict::Timeout, AgentEnd::Limit), "{}", ended(&trial).1);
    let output = trial.kinds.iter().find_map(|kind| match kind {
        EventKind::ProgramEnded { exit_code: None, stdout, .. } => Some(stdout.clone()),
        _ => None,
    });
    assert!(output.expect("its end").truncated, "it says more than can be shown");
    let lines = trial.kinds.iter().filter(|kind| matches!(kind, EventKind::ProgramSaid { .. })).count();
    assert_eq!(lines, 2000, "and more than is told line by line");
    let cmdlines = std::fs::read_dir("/proc").expect("reads").filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    assert_eq!(cmdlines.filter(|cmdline| cmdline.starts_with(name.as_bytes())).count(), 0, "nothing of it is left");
}

/// Minimal MCP client in Python, which exchanges JSON-RPC messages line by line.
const CLIENT: &str = r#"
import json, os, subprocess
config = json.load(open(os.environ["AGENT_MCP"]))["mcpServers"]["tools"]
server = subprocess.Popen([config["command"], *config["args"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
count = 0
def ask(method, params):
    global count
    count += 1
    server.stdin.write(json.dumps({"jsonrpc": "2.0", "id": count, "method": method, "params": params}) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())
def call(name, **arguments):
    return ask("tools/call", {"name": name, "arguments": arguments})["result"]
print("init", json.dumps(ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}})["result"]))
server.stdin.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}) + "\n")
server.stdin.flush()
print("tools", [tool["name"] for tool in ask("tools/list", {})["result"]["tools"]])
print("unknown", call("reboot")["content"][0]["text"])
open(os.environ["HOME"] + "/mine", "w").write("the same machine\n")
print("shell", json.dumps(call("shell", command="x=5; cat mine; false", reasoning="is it mine?")))
nodes = call("shell", command="echo $x; docker ps -aq --filter status=exited | xargs docker start")
print("started", nodes["content"][0]["text"].splitlines()[0], flush=True)
call("submit_diagnosis", root_cause="it ended", component="tikv1", fault_class="process_crash", confidence=0.5, outcome="resolved")
"#;

#[test]
fn tools_are_offered_to_a_client_of_mcp() {
    if require::program("bwrap").is_none() || require::program("python3").is_none() {
        return;
    }
    let variant = "provider: command\ncommand: [/usr/bin/python3, $AGENT_FILES/client.py]\nfiles: { client.py: client.py }\n";
    let project = patient().file("variants/client.py", CLIENT).file("variants/own.yaml", variant);
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "own"]).exits(0);
    let trial = ran.trial();
    proven(&trial, &ran);
    let said = said(&trial);
    assert!(said.contains("tools ['shell', 'submit_diagnosis']") && !said.contains("rmcp") && !said.contains("chaosrun"), "{said}");
    assert!(said.contains("unknown error: unknown tool `reboot`; available tools: shell, submit_diagnosis"), "{said}");
    assert!(said.contains("exit code 1,") && said.contains("the same machine") && said.contains(r#""isError": true"#), "{said}");
    let commands = trial.commands();
    assert_eq!(commands.len(), 2, "{ran}");
    assert_eq!((commands[0].exit_code, commands[0].stdout.text.as_str()), (1, "the same machine\n"), "{ran}");
    assert!(commands[1].stdout.text.starts_with("5\n"), "one shell for all calls: {ran}");
    let calls: Vec<&str> = trial
        .kinds
        .iter()
        .filter_map(|kind| if let EventKind::ToolCalled { tool, .. } = kind { Some(tool.as_str()) } else { None })
        .collect();
    assert_eq!(calls, ["reboot", "shell", "shell", "submit_diagnosis"]);
    assert_eq!(ended(&trial).0, AgentEnd::Resolve, "{ran}");
}
