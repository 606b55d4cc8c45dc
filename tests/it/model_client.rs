//! Tests of the model client with the fake model server. The two programs share no code, only the wire format.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chaosrun_models::anthropic::{Anthropic, Caching};
use chaosrun_models::cassette::{Cassette, CassetteRecorder, Mode};
use chaosrun_models::client::{AnswerSource, ModelClient, ModelClientConfig, SharedModels};
use chaosrun_models::key::KeySource;
use chaosrun_models::openai::OpenAi;
use chaosrun_models::retry::Retries;
use chaosrun_models::{
    CallResult, ConversationEntry, MessagePart, ModelError, ModelFailure, ModelReply, Notice, Spec, StopReason, Thinking, ToolSpec, Usage,
};
use serde_json::{Value, json};

use super::program::{Live, Program, Project};
use super::require;

const KEY: &str = "sk-test-0123456789";

const SCRIPT: &str = r#"
key: sk-test-0123456789
capture:
  node: { pattern: 'node (\w+)' }
turns:
  - when: node is defined
    error: { status: 529, retry_after_ms: 1, times: 2 }
    thinking: "{{ node }} is down."
    text: Ich sehe nach {{ node }}.
    calls:
      - { name: shell, arguments: { command: "docker logs {{ node }}", lines: 20 } }
      - { name: shell, arguments: { command: docker ps } }
    usage: { input: 110, output: 70, cache_read: 50, cache_write: 30, thinking: 20 }
  - { when: node is defined, text: It is back., usage: { input: 9, output: 8, cache_read: 190, cache_write: 0, thinking: 0 } }
  - { when: "'cut' in first", text: Half of an answer., cut: { at: end } }
  - { when: "'broken' in first", text: Half of an answer., cut: { at: 0 } }
  - { when: "'spoiled' in first", text: Half of an answer., malformed: { at: 2 } }
  - { when: "'overloaded' in first", error: { status: 529, at: 3 } }
  - { when: "'mistaken' in first", calls: [{ name: shell, raw: '["ls"]' }] }
  - { when: "'evil' in first", refusal: { category: cyber, explanation: Not this. } }
  - { when: "'long' in first", text: And so on, stop: max_tokens }
  - { when: "'poor' in first", error: { status: 429, code: enforced_spend_limit_reached, retry_after_ms: 1 } }
  - { when: "'bankrupt' in first", error: { status: 429, code: insufficient_quota, retry_after_ms: 1 } }
  - { when: "'late' in first", error: { status: 429, retry_after: 4000 } }
  - { when: "'unwilling' in first", error: { status: 500, should_retry: false } }
  - { text: Whole., repeat: true }
"#;

struct Server {
    live: Live,
    url: String,
    project: Project,
}

impl Server {
    fn start() -> Self {
        let project = Project::new().file("script.yaml", SCRIPT).file("key", KEY);
        let mut live = Program::new().dir(project.path()).args(["node", "model", "script.yaml", "--log", "log.jsonl"]).start();
        let url = live.until_line("printed its address", |line| line.starts_with("http://")).trim().to_owned();
        Self { live, url, project }
    }

    fn client(&self, wire: Wire, stream: bool, source: AnswerSource) -> ModelClient {
        self.client_as(wire, Anthropic::default(), stream, source)
    }

    fn client_as(&self, wire: Wire, anthropic: Anthropic, stream: bool, source: AnswerSource) -> ModelClient {
        let retries = Retries { most: 3, within: Duration::from_secs(600) };
        let key = match source {
            AnswerSource::Cassette(_) => KeySource::None,
            _ => KeySource::File(self.project.path().join("key")),
        };
        let silence = Duration::from_secs(120);
        let (wire, base_url): (Arc<dyn chaosrun_models::wire::ModelWire>, _) = match wire {
            Wire::Anthropic => (Arc::new(anthropic), self.url.clone()),
            Wire::OpenAi => (Arc::new(OpenAi::default()), format!("{}/v1", self.url)),
        };
        ModelClient::new(
            ModelClientConfig { wire, base_url, key, stream, silence, retries, seed: 1, price: None, source },
            &SharedModels::default(),
        )
        .expect("a client")
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.project.path().join("log.jsonl")).expect("a log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn stop(self) {
        self.live.signal(nix::sys::signal::Signal::SIGTERM);
        self.live.wait().exits(0);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wire {
    Anthropic,
    OpenAi,
}

const WAYS: [(Wire, bool); 4] = [(Wire::Anthropic, false), (Wire::Anthropic, true), (Wire::OpenAi, false), (Wire::OpenAi, true)];

fn spec(wire: Wire) -> Spec {
    Spec {
        model: "claude-opus-5-5".into(),
        system: "You repair clusters.".into(),
        tools: vec![ToolSpec {
            name: "shell".into(),
            description: "Runs a command.".into(),
            parameters: json!({ "type": "object", "properties": { "command": { "type": "string" } }, "required": ["command"] }),
        }],
        max_tokens: 4000,
        thinking: if wire == Wire::Anthropic { Thinking::Adaptive } else { Thinking::Unsaid },
        effort: Some("high".into()),
        temperature: None,
    }
}

async fn ask(client: &mut ModelClient, wire: Wire, history: &[ConversationEntry]) -> (Result<ModelReply, ModelError>, Vec<Notice>) {
    ask_as(client, &spec(wire), history).await
}

async fn ask_as(client: &mut ModelClient, spec: &Spec, history: &[ConversationEntry]) -> (Result<ModelReply, ModelError>, Vec<Notice>) {
    let notices = Mutex::new(Vec::new());
    let reply = client.ask(spec, history, &|notice| notices.lock().expect("a lock").push(notice)).await;
    (reply, notices.into_inner().expect("a lock"))
}

/// Runs a repair in two turns. Returns all messages, byte for byte, and the notices of the client.
async fn repair(client: &mut ModelClient, wire: Wire) -> (Vec<String>, Vec<Notice>) {
    let mut history = vec![ConversationEntry::User("A ticket: node tikv2 does not answer.".into())];
    let (reply, notices) = ask(client, wire, &history).await;
    let reply = reply.expect("a reply");
    assert_eq!(reply.stop, StopReason::Calls, "{wire:?}");
    assert_eq!(
        reply.parts[..2],
        [MessagePart::Thinking("tikv2 is down.".into()), MessagePart::Text("Ich sehe nach tikv2.".into())],
        "{wire:?}"
    );
    let calls: Vec<_> =
        reply.parts[2..].iter().map(|part| if let MessagePart::Call(call) = part { call } else { panic!("{part:?}") }).collect();
    let arguments = calls.iter().map(|call| Value::from(call.arguments.clone().expect("arguments"))).collect::<Vec<_>>();
    assert_eq!(arguments, [json!({ "command": "docker logs tikv2", "lines": 20 }), json!({ "command": "docker ps" })], "{wire:?}");
    assert_eq!(
        reply.usage,
        Usage { input: 110, output: 70, cache_read: 50, cache_write: 30, cache_write_long: 0, thinking: 20 },
        "{wire:?}"
    );
    assert!(reply.request.is_some(), "{wire:?}");
    let results = calls.iter().map(|call| CallResult { id: call.id.clone(), text: "gone".into(), failed: true }).collect();
    let mut said = vec![reply.message.get().to_owned()];
    history.extend([
        ConversationEntry::Assistant(reply.message),
        ConversationEntry::Results(results),
        ConversationEntry::User("Mind the time.".into()),
    ]);
    let (reply, none) = ask(client, wire, &history).await;
    let reply = reply.unwrap_or_else(|error| panic!("{wire:?}: {error}"));
    assert_eq!((reply.stop, &reply.parts[..], none), (StopReason::End, &[MessagePart::Text("It is back.".into())][..], vec![]), "{wire:?}");
    said.push(reply.message.get().to_owned());
    (said, notices)
}

#[tokio::test]
async fn a_repair_is_the_same_on_both_wires_streamed_and_not_and_from_its_cassette() {
    let server = Server::start();
    let path = server.project.path().join("cassette.jsonl");
    let recorder = CassetteRecorder::create(&path, None).expect("a cassette");
    let mut recorded = Vec::new();
    for (wire, stream) in WAYS {
        let name = format!("{wire:?} {stream}");
        let mut client = server.client(wire, stream, AnswerSource::Recorded(Arc::clone(&recorder), name.clone()));
        let (said, notices) = repair(&mut client, wire).await;
        assert!(
            matches!(notices[..], [Notice::Retry { attempt: 1, status: Some(529), .. }, Notice::Retry { attempt: 2, .. }]),
            "{notices:?}"
        );
        let spent = client.meter().spent();
        let usage = Usage { input: 119, output: 78, cache_read: 240, cache_write: 30, cache_write_long: 0, thinking: 20 };
        assert_eq!((spent.usage, spent.exchanges, spent.guessed), (usage, 4, 0), "{name}");
        recorded.push((name, wire, stream, said, notices, spent));
    }
    recorder.close().expect("written");
    assert_eq!(server.log().len(), 16, "two that failed and two that did not, each way");
    // The cassette contains all of it except the key.
    assert!(!std::fs::read_to_string(&path).expect("a cassette").contains(KEY));
    let cassette = Cassette::open(&path).expect("a cassette");
    for (name, wire, stream, said, notices, spent) in recorded {
        let replay = cassette.session(&name, Mode::Strict, None).expect("a session");
        let mut client = server.client(wire, stream, AnswerSource::Cassette(replay));
        assert_eq!((repair(&mut client, wire).await, client.meter().spent()), ((said, notices), spent), "{name}");
    }
    assert_eq!(server.log().len(), 16, "nobody was asked again");
    server.stop();
}

#[tokio::test]
async fn errors_are_retried_or_reported() {
    let server = Server::start();
    for (wire, stream) in WAYS {
        let way = format!("{wire:?}, stream: {stream}");
        // Each branch is a conversation of its own: after a failure, the same message continues the failed one.
        let asked = async |word: &str| {
            let mut client = server.client(wire, stream, AnswerSource::Live);
            let (reply, notices) = ask(&mut client, wire, &[ConversationEntry::User(format!("Be {word}. ({way})"))]).await;
            (reply, notices, client.meter().spent())
        };
        for word in ["cut", "broken"] {
            let (reply, notices, _) = asked(word).await;
            let reply = reply.unwrap_or_else(|error| panic!("{way}, {word}: {error}"));
            assert_eq!((&reply.parts[..], notices.len()), (&[MessagePart::Text("Whole.".into())][..], 1), "{way}, {word}: {notices:?}");
        }
        if stream {
            for word in ["spoiled", "overloaded"] {
                let (reply, notices, spent) = asked(word).await;
                let reply = reply.unwrap_or_else(|error| panic!("{way}, {word}: {error}"));
                assert_eq!(
                    (&reply.parts[..], notices.len(), spent.exchanges),
                    (&[MessagePart::Text("Whole.".into())][..], 1, 2),
                    "{way}, {word}: {notices:?}"
                );
            }
        }
        let reply = asked("mistaken").await.0.expect("a reply");
        let Some(MessagePart::Call(call)) = reply.parts.first() else { panic!("{way}: {:?}", reply.parts) };
        assert!(call.arguments.as_ref().is_err_and(|bad| bad.why.contains("a JSON object, found an array")), "{way}: {call:?}");
        let reply = asked("evil").await.0.expect("a reply");
        assert!(matches!(reply.stop, StopReason::Refusal { explanation: Some(why), .. } if why == "Not this."), "{way}");
        assert_eq!(asked("long").await.0.expect("a reply").stop, StopReason::MaxTokens, "{way}");
        // Each wire format has its own error code for an exhausted account.
        let poor = if wire == Wire::Anthropic { "poor" } else { "bankrupt" };
        for (word, kind, status) in
            [(poor, ModelFailure::Quota, 429), ("late", ModelFailure::RateLimit, 429), ("unwilling", ModelFailure::Server, 500)]
        {
            let (reply, notices, _) = asked(word).await;
            let Err(error) = reply else { panic!("{way}, {word}: {reply:?}") };
            assert_eq!((error.kind, error.status, notices.len()), (kind, Some(status), 0), "{way}, {word}: {error}");
        }
    }
    server.stop();
}

/// Checks request bodies against the types of the official SDKs by a Python program. Returns the errors of each body.
fn wrong(python: &Path, asked: &[Value]) -> Vec<Vec<String>> {
    let params = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/model/params.py");
    let mut python = Command::new(python).arg(params).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
    let mut stdin = python.stdin.take().expect("piped");
    for line in asked {
        writeln!(stdin, "{line}").expect("written");
    }
    drop(stdin);
    let ended = python.wait_with_output().expect("it ends");
    assert!(ended.status.success());
    String::from_utf8_lossy(&ended.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn requests_match_the_types_of_the_sdks() {
    let Some(python) = require::sdk() else { return };
    let server = Server::start();
    for (wire, stream) in WAYS {
        // Tools, thinking, caching; then a history with results, one after the other and at once.
        repair(&mut server.client(wire, stream, AnswerSource::Live), wire).await;
        let plain = Spec { system: String::new(), tools: vec![], thinking: Thinking::Unsaid, effort: None, ..spec(wire) };
        let hourly = Anthropic { cache: Caching::OneHour, ..Anthropic::default() };
        let uncached = Anthropic { cache: Caching::Off, ..Anthropic::default() };
        let off = Spec { thinking: Thinking::Off, effort: None, ..spec(wire) };
        let mut specs = vec![(plain, uncached), (off, hourly.clone())];
        if wire == Wire::Anthropic {
            let thinks = |thinking| Spec { thinking, max_tokens: 4000, ..spec(wire) };
            specs.extend([Thinking::Budget(2000), Thinking::BetweenTools].map(|thinking| (thinks(thinking), hourly.clone())));
        }
        for (spec, anthropic) in specs {
            let mut client = server.client_as(wire, anthropic, stream, AnswerSource::Live);
            // The server refuses some requests because the model is too new: they were sent nevertheless.
            let _ = ask_as(&mut client, &spec, &[ConversationEntry::User("Fine.".into())]).await;
        }
    }
    let mut asked: Vec<Value> = server.log().into_iter().map(|line| json!({ "path": line["path"], "body": line["body"] })).collect();
    server.stop();
    // Some servers' field for thinking is sent back unchanged; OpenAI itself never sends it.
    for message in asked.iter_mut().filter_map(|line| line["body"]["messages"].as_array_mut()).flatten() {
        let openai = message["content"].is_string() || message["content"].is_null();
        message.as_object_mut().filter(|_| openai).map(|message| message.shift_remove("reasoning"));
    }
    assert!(asked.len() >= 20, "{}", asked.len());
    let has = |wanted: fn(&Value) -> bool| asked.iter().any(|line| wanted(&line["body"]));
    assert!(has(|body| body["messages"][2]["content"][0]["is_error"] == true) && has(|body| body["messages"][3]["role"] == "tool"));
    assert!(has(|body| body["cache_control"]["ttl"] == "1h") && has(|body| body["thinking"]["budget_tokens"] == 2000));
    for (asked, wrong) in asked.iter().zip(wrong(&python, &asked)) {
        assert!(wrong.is_empty(), "{wrong:#?}\n{asked:#}");
    }
    // Checks that the types would have detected errors.
    let spoiled = |change: fn(&mut Value)| {
        asked.iter().cloned().map(move |mut line| {
            change(&mut line["body"]);
            line
        })
    };
    let spoiled: Vec<Value> = spoiled(|body| body["frobnicate"] = json!(1))
        .chain(spoiled(|body| body["messages"][0]["role"] = json!("robot")))
        .chain(spoiled(|body| drop(body.as_object_mut().expect("an object").shift_remove("model"))))
        .collect();
    assert!(wrong(&python, &spoiled).iter().all(|wrong| !wrong.is_empty()));
}
