use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::compare::{asked_of_others, canonical, difference, meant};
use super::*;
use crate::anthropic::Anthropic;
use crate::client::AnswerSource;
use crate::key::ApiKey;
use crate::transport::{Incoming, Outgoing, Transport, TransportError};
use crate::wire::WireDialect;

/// Transport that returns prepared responses in order. The body of each response arrives in several pieces.
struct Scripted(VecDeque<Result<(u16, Pieces), TransportError>>);

type Pieces = Vec<Result<Bytes, TransportError>>;

#[async_trait]
impl Transport for Scripted {
    async fn send(&mut self, _: Outgoing) -> Result<Incoming, TransportError> {
        let (status, pieces) = self.0.pop_front().expect("a request of the test")?;
        let headers = [("content-type", "text/event-stream"), ("set-cookie", "secret"), ("request-id", "req_1")];
        let headers = headers.into_iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect();
        Ok(Incoming { status, headers, body: Box::pin(stream::iter(pieces)), diverged: None })
    }
}

fn request(text: &str, result: &str) -> Value {
    json!({
        "model": "m", "max_tokens": 10, "stream": true,
        "system": [{ "type": "text", "text": "be good", "cache_control": { "type": "ephemeral" } }],
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": text }] },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "1", "name": "shell", "input": { "command": "ps" } }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "1", "content": result }] },
        ],
    })
}

fn outgoing(body: &Value) -> Outgoing {
    Outgoing { headers: HeaderMap::new(), body: body.to_string().into() }
}

/// Sends a request. Returns the status, the body, and the error if the response was cut off.
async fn exchange(transport: &mut dyn Transport, body: &Value) -> Result<(u16, Vec<u8>, Option<TransportError>), TransportError> {
    let Incoming { status, mut body, .. } = transport.send(outgoing(body)).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(lost) => return Ok((status, bytes, Some(lost))),
        }
    }
    Ok((status, bytes, None))
}

fn lost() -> TransportError {
    TransportError::Connection("connection refused".into())
}

fn answers() -> Scripted {
    let piece = |text: &'static [u8]| Ok(Bytes::from_static(text));
    Scripted(VecDeque::from([
        Ok((200, vec![piece(b"event: a\n"), piece("data: é hunter2-hunter2\n\n".as_bytes())])),
        Err(lost()),
        Ok((529, vec![piece(b"\xff\xfe")])),
        Ok((200, vec![piece(b"half"), Err(lost())])),
        Ok((200, vec![piece(b"given"), piece(b" up")])),
    ]))
}

/// Records five exchanges, the first with a key in its request, and returns the content of the cassette file.
async fn recorded(path: &std::path::Path) -> String {
    let key = Some(ApiKey::new("hunter2-hunter2"));
    let recorder = CassetteRecorder::create(path, None).expect("a cassette");
    let wire = Anthropic::default();
    let mut recording = Arc::clone(&recorder).session("one".into(), Box::new(answers()), wire.route(), key.clone());
    exchange(&mut recording, &request("key: hunter2-hunter2", "exit code 0, took 1 s\npid 1")).await.expect("whole");
    assert_eq!(exchange(&mut recording, &request("b", "pid 2")).await, Err(lost()));
    exchange(&mut recording, &request("c", "pid 3")).await.expect("bytes");
    exchange(&mut recording, &request("d", "pid 4")).await.expect("half");
    let mut given_up = recording.send(outgoing(&request("e", "pid 5"))).await.expect("an answer");
    given_up.body.next().await.expect("a piece").expect("bytes");
    drop(given_up);
    // Two clients that share a session.
    for text in ["f", "g"] {
        let mut other = Arc::clone(&recorder).session("two".into(), Box::new(answers()), wire.route(), key.clone());
        exchange(&mut other, &request(text, "")).await.expect("whole");
    }
    recorder.close().expect("written");
    std::fs::read_to_string(path).expect("the cassette")
}

fn session(path: &std::path::Path, mode: Mode) -> impl Transport + use<> {
    let cassette = Cassette::open(path).expect("a cassette");
    assert_eq!(cassette.sessions().collect::<Vec<_>>(), ["one", "two"]);
    let unknown = cassette.session("three", mode, None).expect_err("no such session");
    assert!(unknown.ends_with("has no session `three`: it has `one`, `two`"), "{unknown}");
    cassette.session("one", mode, None).expect("a session").of(Anthropic::default().route(), None)
}

#[tokio::test]
async fn replay_returns_recorded_exchanges_and_failures() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cassette.jsonl");
    let text = recorded(&path).await;
    assert!(!text.contains("hunter2") && !text.contains("set-cookie") && text.contains("[key]"), "{text}");
    let again = CassetteRecorder::create(&path, None).expect_err("it is there");
    assert!(again.contains("exists already"), "{again}");

    let mut replay = session(&path, Mode::Strict);
    let mut first = request("key: [key]", "exit code 0, took 1 s\npid 1");
    // Parts without meaning may differ.
    first["stream"] = false.into();
    first["system"][0].as_object_mut().expect("a block").remove("cache_control");
    assert_eq!(exchange(&mut replay, &first).await, Ok((200, "event: a\ndata: é [key]\n\n".into(), None)));
    assert_eq!(exchange(&mut replay, &request("b", "pid 2")).await, Err(lost()));
    assert_eq!(exchange(&mut replay, &request("c", "pid 3")).await, Ok((529, b"\xff\xfe".into(), None)));
    assert_eq!(exchange(&mut replay, &request("d", "pid 4")).await, Ok((200, b"half".into(), Some(lost()))));
    let mut given_up = replay.send(outgoing(&request("e", "pid 5"))).await.expect("an answer");
    assert_eq!(given_up.headers["request-id"], "req_1");
    assert_eq!(given_up.body.next().await, Some(Ok(Bytes::from_static(b"given"))));
    assert!(given_up.body.next().now_or_never().is_none(), "nobody knows what would have come");
    let Err(TransportError::Cassette(why)) = exchange(&mut replay, &first).await else { panic!("there is no more") };
    assert!(why.contains("holds 5 exchanges of this session, and one more"), "{why}");
}

#[tokio::test]
async fn clients_of_a_session_share_its_position() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cassette.jsonl");
    recorded(&path).await;
    let cassette = Cassette::open(&path).expect("a cassette");
    // Each replay starts from the beginning.
    for _ in 0..2 {
        let replay = cassette.session("two", Mode::Strict, None).expect("a session");
        for text in ["f", "g"] {
            let mut client = replay.clone().of(Anthropic::default().route(), None);
            exchange(&mut client, &request(text, "")).await.expect("whole");
        }
    }
}

#[tokio::test]
async fn different_request_is_reported_with_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cassette.jsonl");
    recorded(&path).await;
    let right = || request("key: [key]", "exit code 0, took 1 s\npid 1");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = right();
        change(&mut body);
        body
    };
    let cases: [(Value, &str); 6] = [
        (changed(&|body| body["max_tokens"] = 20.into()), "`max_tokens`: recorded 10, now 20"),
        (changed(&|body| body["system"][0]["text"] = "be bad".into()), r#"`system[0].text`: recorded "be good", now "be bad""#),
        (
            changed(&|body| body["messages"][1]["content"][0]["input"] = json!({ "command": "ls" })),
            r#"`messages[1].content[0].input.command`: recorded "ps", now "ls""#,
        ),
        (changed(&|body| drop(body["messages"].as_array_mut().expect("messages").pop())), "`messages`: recorded 3 items, now 2 items"),
        (
            request("key: [key]", "exit code 1, took 1 s\npid 1"),
            r#"`messages[2].content[0].content`: recorded "exit code 0", now "exit code 1""#,
        ),
        (changed(&|body| body["tools"] = json!([])), "`tools`: recorded nothing, now []"),
    ];
    for (body, says) in cases {
        match session(&path, Mode::Strict).send(outgoing(&body)).await {
            Err(TransportError::Diverged(diverged)) => {
                assert_eq!((diverged.difference.to_string().as_str(), diverged.exchange, diverged.told), (says, 1, false));
            }
            other => panic!("{says}: {:?}", other.map(|incoming| incoming.status)),
        }
        // The request is answered, and the difference is reported.
        let diverged = session(&path, Mode::Lenient).send(outgoing(&body)).await.expect("an answer").diverged.expect("it is said");
        assert_eq!((diverged.difference.to_string().as_str(), diverged.told), (says, false));
    }
    // Cluster output always differs.
    for mode in [Mode::Strict, Mode::Lenient] {
        let mut replay = session(&path, mode);
        let first = replay.send(outgoing(&request("key: none", "exit code 0, took 2 s\npid 17"))).await.expect("an answer");
        let diverged = first.diverged.expect("it is said");
        assert!(diverged.told, "{diverged}");
        assert_eq!(diverged.difference.to_string(), r#"`messages[0].content[0].text`: recorded "key: [key]", now "key: none""#);
        assert_eq!(replay.send(outgoing(&request("b", "pid 2"))).await.err(), Some(lost()));
        let third = replay.send(outgoing(&request("c", "pid 3"))).await.expect("an answer");
        assert_eq!(third.diverged, None, "it is said once");
    }
}

#[test]
fn chat_prompt_and_command_output_may_differ() {
    let chat = |prompt: &str, result: &str, told: &str| {
        canonical(&json!({ "messages": [
            { "role": "system", "content": "be good" },
            { "role": "user", "content": prompt },
            { "role": "assistant", "content": null, "tool_calls": [] },
            { "role": "tool", "tool_call_id": "1", "content": result },
            { "role": "user", "content": told },
        ]}))
    };
    let recorded = chat("port 1", "(failed) exit code 1, took 0.1 s\nstdout:\n1", "use a tool");
    let same = chat("port 2", "(failed) exit code 1, took 0.2 s\nstdout:\n2", "use a tool");
    assert_eq!(difference(&meant(&recorded), &meant(&same)), None);
    let other = [
        ("exit code 0, took 0.1 s", "use a tool", "messages[3].content"),
        ("(failed) error: unknown tool `x`", "use a tool", "messages[3].content"),
        ("(failed) exit code 1, took 1 s", "stop", "messages[4].content"),
    ];
    for (result, told, place) in other {
        let found = difference(&meant(&recorded), &meant(&chat("port 1", result, told))).expect("a difference");
        assert_eq!(found.place, place);
    }
}

#[test]
fn response_texts_and_ids_of_external_programs_may_differ() {
    let asked = |key: &str, said: &str, input: &str| {
        let message = |role: &str| json!({ "type": "message", "id": format!("msg_{key}"), "role": role, "content": [{ "type": "input_text", "text": said }] });
        json!({
            "model": "m", "prompt_cache_key": key, "client_metadata": { "turn": key }, "instructions": said,
            "input": [
                message("developer"),
                message("user"),
                { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "I look." }] },
                { "type": "custom_tool_call", "call_id": "call_1", "name": "exec", "input": input },
                { "type": "custom_tool_call_output", "call_id": "call_1", "output": [{ "type": "input_text", "text": said }] },
            ],
        })
    };
    let told = |body: &Value| asked_of_others(&canonical(body));
    let recorded = asked("1", "port 1", "text(1)");
    assert_eq!(difference(&canonical(&recorded), &canonical(&asked("2", "port 1", "text(1)"))), None, "ids mean nothing");
    assert_eq!(difference(&told(&recorded), &told(&asked("2", "port 2", "text(1)"))), None);
    let place = |body: &Value| difference(&told(&recorded), &told(body)).expect("a difference").place;
    assert_eq!(place(&asked("1", "port 1", "text(2)")), "input[3].input");
    let mut other = recorded.clone();
    other["input"][2]["content"][0]["text"] = "So.".into();
    assert_eq!(place(&other), "input[2].content[0].text", "what the model has said is its own");
    let text = |text: &str| json!({ "model": "m", "input": text });
    assert_eq!(difference(&told(&text("port 1")), &told(&text("port 2"))), None);
}

#[tokio::test]
async fn prompt_lengths_have_their_own_session() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cassette.jsonl");
    let route = crate::wire::RecordedRoute { wire: "anthropic", path: "/v1/messages/count_tokens" };
    let recorder = CassetteRecorder::create(&path, None).expect("a cassette");
    let mut lengths = Arc::clone(&recorder).session(LENGTHS.into(), Box::new(answers()), route, None);
    exchange(&mut lengths, &request("a", "")).await.expect("whole");
    recorder.close().expect("written");
    let tape = Tape::replay(&path, Mode::Strict).expect("a cassette");
    // Prompt lengths and model responses are not interchangeable.
    let AnswerSource::Cassette(answers) = tape.source(SERVED).expect("nothing was asked then") else { panic!() };
    assert!(matches!(
        answers.of(Anthropic::default().route(), None).send(outgoing(&request("a", ""))).await,
        Err(TransportError::Cassette(_))
    ));
    let Some(AnswerSource::Cassette(lengths)) = tape.lengths().expect("read") else { panic!() };
    let mut lengths = lengths.of(route, None);
    assert_eq!(exchange(&mut lengths, &request("another", "")).await.expect("whatever is asked").0, 200);
    assert!(matches!(exchange(&mut lengths, &request("a", "")).await, Err(TransportError::Cassette(_))));

    recorded(&path.with_extension("other")).await;
    assert!(Tape::replay(&path.with_extension("other"), Mode::Strict).expect("a cassette").lengths().expect("none").is_none());
}

#[test]
fn cassettes_are_found_by_their_origin() {
    let dir = tempfile::tempdir().expect("a folder");
    let origin = |scenario: &str, seed| CassetteOrigin {
        scenario: scenario.into(),
        cell: indexmap::IndexMap::new(),
        seed,
        repeat: 1,
        variant: "kitchen".into(),
        subject: "s".into(),
        file: "provider: anthropic".into(),
        templates: indexmap::IndexMap::new(),
        files: indexmap::IndexMap::new(),
    };
    assert!(shelf(dir.path()).expect_err("empty").contains("holds no cassette"));
    for (name, of) in [("b", origin("node_kill", 2)), ("a", origin("latency", 1))] {
        CassetteRecorder::create(&dir.path().join(format!("{name}.jsonl")), Some(of)).expect("a cassette").close().expect("written");
    }
    std::fs::write(dir.path().join("README.md"), "nothing").expect("written");
    let found = shelf(dir.path()).expect("two");
    assert_eq!(found.iter().map(|(_, of)| of.words()).collect::<Vec<_>>(), ["latency/kitchen, seed 1", "node_kill/kitchen, seed 2"]);
    let nameless = dir.path().join("c.jsonl");
    CassetteRecorder::create(&nameless, None).expect("a cassette").close().expect("written");
    assert!(shelf(dir.path()).expect_err("of nothing").contains("does not say of which trial it is"));
    assert!(shelf(&dir.path().join("d.jsonl")).expect_err("none").contains("no such file"));
}

#[tokio::test]
async fn truncated_and_invalid_cassettes_are_detected() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cassette.jsonl");
    let text = recorded(&path).await;
    let six = text.lines().take(6).map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(&path, format!("{six}{}", &text[six.len()..six.len() + 20])).expect("write");
    let cut = Cassette::open(&path).expect("what is whole of it");
    assert_eq!(cut.sessions().collect::<Vec<_>>(), ["one"]);
    assert!(cut.session("of another name", Mode::Strict, None).is_ok(), "it is the only one");
    std::fs::write(&path, text.replacen("\"seq\":2", "\"seq\":-2", 1)).expect("write");
    let damaged = Cassette::open(&path).expect_err("damaged");
    assert!(damaged.contains("is damaged in line 3: "), "{damaged}");
    std::fs::write(&path, text.replacen("\"cassette\":1", "\"cassette\":9", 1)).expect("write");
    assert!(Cassette::open(&path).expect_err("newer").contains("has format 9"));
    std::fs::write(&path, "name: node_kill\n").expect("write");
    assert!(Cassette::open(&path).expect_err("none").contains("is no cassette"));
}

#[tokio::test]
async fn paced_replay_takes_the_recorded_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cassette.jsonl");
    let text = recorded(&path).await;
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (lines[1]["head_ms"], lines[1]["ms"]) = (400.into(), 1000.into());
    std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("write");
    let cassette = Cassette::open(&path).expect("a cassette");
    let mut replay = cassette.session("one", Mode::Strict, Some(0.5)).expect("a session").of(Anthropic::default().route(), None);
    let begun = tokio::time::Instant::now();
    let mut incoming = replay.send(outgoing(&request("key: [key]", "exit code 0, took 1 s\npid 1"))).await.expect("an answer");
    let head = begun.elapsed();
    assert!(head >= Duration::from_millis(200), "{head:?}");
    incoming.body.next().await.expect("a piece").expect("bytes");
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!((replay.pace() - 0.5).abs() < 1e-9);
}
