//! Tests of the client against a scripted server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use futures_util::{FutureExt, StreamExt, future, stream};
use reqwest::header::HeaderMap;

use super::anthropic::Anthropic;
use super::cassette::{Cassette, CassetteRecorder, Mode};
use super::client::{AnswerSource, ModelClient, ModelClientConfig, SILENCE, SharedModels};
use super::key::KeySource;
use super::openai::OpenAi;
use super::prices::Prices;
use super::retry::Retries;
use super::wire::ModelWire;
use super::{ConversationEntry, MessagePart, ModelError, ModelFailure, ModelReply, Notice, Spec, StopReason, Thinking, Usage};

/// Way in which a scripted response ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    /// The server closes the connection before the end of the response.
    Cut,
    /// The server sends no more data and keeps the connection open.
    Silence,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    end: End,
}

fn sse(body: &str, end: End) -> Answer {
    Answer { status: 200, headers: vec![("content-type", "text/event-stream"), ("request-id", "req_9")], body: body.into(), end }
}

fn error(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
    Answer { status, headers: headers.to_vec(), body: body.into(), end: End::Whole }
}

type Asked = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Serves the given responses in order and stores the received requests.
async fn serve(answers: impl IntoIterator<Item = Answer>) -> (String, Asked) {
    let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
    let asked = Asked::default();
    let requests = Arc::clone(&asked);
    let app = Router::new().fallback(async move |request: Request| {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        requests.lock().unwrap_or_else(PoisonError::into_inner).push((head.headers, body));
        let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().expect("an answer for each request");
        let end = match answer.end {
            End::Whole => stream::empty().boxed(),
            // Earlier data has to be sent first.
            End::Cut => stream::once(tokio::task::yield_now().map(|()| Err(std::io::Error::other("cut")))).boxed(),
            End::Silence => stream::pending().boxed(),
        };
        if answer.end == End::Silence && answer.body.is_empty() {
            future::pending::<()>().await;
        }
        let body = stream::iter([Ok(Bytes::from(answer.body))]).chain(end);
        let head = answer.headers.iter().fold(Response::builder().status(answer.status), |head, (name, value)| head.header(*name, *value));
        head.body(Body::from_stream(body)).expect("a response")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    chaosrun_base::task::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

const KEY: &str = "hunter2-hunter2";

fn config(wire: impl ModelWire + 'static, base_url: &str, key: &tempfile::NamedTempFile) -> ModelClientConfig {
    std::fs::write(key.path(), KEY).expect("a key");
    ModelClientConfig {
        wire: Arc::new(wire),
        base_url: base_url.into(),
        key: KeySource::File(key.path().into()),
        stream: true,
        silence: SILENCE,
        retries: Retries { most: 3, within: Duration::from_secs(300) },
        seed: 7,
        price: Prices::shipped().of("claude-opus-5-5").cloned(),
        source: AnswerSource::Live,
    }
}

fn key() -> tempfile::NamedTempFile {
    tempfile::NamedTempFile::new().expect("a file")
}

fn client(url: &str) -> ModelClient {
    ModelClient::new(config(Anthropic::default(), url, &key()), &SharedModels::default()).expect("a client")
}

async fn ask(client: &mut ModelClient) -> (Result<ModelReply, ModelError>, Vec<Notice>) {
    let (spec, history) = conversation();
    let notices = Mutex::new(Vec::new());
    let reply = client.ask(&spec, &history, &|notice| notices.lock().expect("a lock").push(notice)).await;
    (reply, notices.into_inner().expect("a lock"))
}

fn conversation() -> (Spec, Vec<ConversationEntry>) {
    let spec = Spec {
        model: "claude-opus-5-5".into(),
        system: "be good".into(),
        tools: Vec::new(),
        max_tokens: 100,
        thinking: Thinking::Unsaid,
        effort: None,
        temperature: None,
    };
    (spec, vec![ConversationEntry::User("go".into())])
}

const BEGIN: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-opus-5-5\",\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"As long as forty bytes are, to the byte.\"}}\n\n",
);
const FINISH: &str = concat!(
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":12}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

fn whole() -> Answer {
    sse(&format!("{BEGIN}{FINISH}"), End::Whole)
}

const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;

#[tokio::test]
async fn request_is_repeated_unchanged_until_answered() {
    let soon = [("retry-after-ms", "1")];
    let (url, asked) = serve([error(529, &soon, OVERLOADED), error(400, &[("x-should-retry", "true"), soon[0]], "{}"), whole()]).await;
    let mut client = client(&url);
    let (reply, notices) = ask(&mut client).await;
    let reply = reply.expect("a reply");
    assert_eq!((reply.stop, reply.request.as_deref()), (StopReason::End, Some("req_9")));
    assert_eq!(reply.parts, [MessagePart::Text("As long as forty bytes are, to the byte.".into())]);
    let wait = Duration::from_millis(1);
    let retry = |attempt, status, why: &str| Notice::Retry { attempt, status: Some(status), why: why.into(), wait };
    assert_eq!(notices, [retry(1, 529, "Overloaded"), retry(2, 400, "{}")]);
    let spent = client.meter().spent();
    assert_eq!((spent.usage, spent.exchanges, spent.guessed), (Usage { input: 1000, output: 12, ..Usage::default() }, 3, 0));
    assert!((spent.usd - (1000.0 * 4.0 + 12.0 * 20.0) / 1e6).abs() < 1e-12, "{spent:?}");
    let asked = asked.lock().expect("a lock");
    assert!(asked.len() == 3 && asked.iter().all(|(headers, body)| headers["x-api-key"] == KEY && *body == asked[0].1));
}

#[tokio::test]
async fn truncated_stream_is_retried_and_both_attempts_are_counted() {
    let (url, _) = serve([sse(BEGIN, End::Cut), sse(BEGIN, End::Whole), whole()]).await;
    let mut client = client(&url);
    let (reply, notices) = ask(&mut client).await;
    assert_eq!(reply.expect("a reply").usage, Usage { input: 1000, output: 12, ..Usage::default() });
    assert!(
        matches!(&notices[..], [Notice::Retry { attempt: 1, .. }, Notice::Retry { attempt: 2, why, .. }] if why.contains("message_stop")),
        "{notices:?}"
    );
    let spent = client.meter().spent();
    // Forty bytes count as ten tokens, twice.
    assert_eq!((spent.usage, spent.exchanges, spent.guessed), (Usage { input: 3000, output: 32, ..Usage::default() }, 3, 2));
}

#[tokio::test]
async fn dropped_call_keeps_its_cost() {
    let (url, _) = serve([sse(BEGIN, End::Silence)]).await;
    let mut client = client(&url);
    let meter = client.meter();
    let (spec, history) = conversation();
    let mut call = client.ask(&spec, &history, &|notice| panic!("{notice:?}")).boxed();
    while meter.spent().usage.output < 10 {
        // Each turn of the runtime advances the call.
        assert!((&mut call).now_or_never().is_none(), "it has no end");
        tokio::task::yield_now().await;
    }
    drop(call);
    let spent = meter.spent();
    assert_eq!((spent.usage, spent.exchanges, spent.guessed), (Usage { input: 1000, output: 10, ..Usage::default() }, 1, 1));
    assert!((spent.usd - (1000.0 * 4.0 + 10.0 * 20.0) / 1e6).abs() < 1e-12, "{spent:?}");
}

#[tokio::test]
async fn errors_hide_the_key_and_hopeless_requests_are_not_retried() {
    let told =
        format!(r#"{{"type":"error","error":{{"type":"authentication_error","message":"invalid x-api-key {KEY}"}},"request_id":"req_1"}}"#);
    let (url, asked) = serve([error(401, &[], &told)]).await;
    let mut client = client(&url);
    let (reply, notices) = ask(&mut client).await;
    let failed = reply.expect_err("no right key");
    assert_eq!((failed.kind, failed.attempts, failed.request.as_deref(), notices.len()), (ModelFailure::Key, 1, Some("req_1"), 0));
    assert_eq!(failed.to_string(), "401: invalid x-api-key [key]");
    assert!(!format!("{client:?}").contains(KEY));
    assert_eq!(asked.lock().expect("a lock").len(), 1);
    let late = [("retry-after", "301")];
    let (url, _) = serve([error(429, &late, OVERLOADED)]).await;
    let failed = ask(&mut self::client(&url)).await.0.expect_err("too late");
    assert!(
        failed.kind == ModelFailure::RateLimit && failed.message.contains("the server asks to wait 5m 1s, and tries may take 5m"),
        "{failed}"
    );
}

#[tokio::test]
async fn unreachable_or_silent_server_is_a_lost_connection() {
    let key = key();
    let mut gone = config(Anthropic::default(), "http://127.0.0.1:1", &key);
    gone.retries.most = 1;
    let (reply, notices) = ask(&mut ModelClient::new(gone, &SharedModels::default()).expect("a client")).await;
    let failed = reply.expect_err("nobody is there");
    assert_eq!((failed.kind, failed.attempts, notices.len()), (ModelFailure::Connection, 2, 1));
    assert_eq!(failed.message, "127.0.0.1:1: connection refused (tried 2 times)");
    let (url, _) = serve([sse("", End::Silence), sse(BEGIN, End::Silence)]).await;
    let mut silent = config(Anthropic::default(), &url, &key);
    (silent.silence, silent.retries.most) = (Duration::from_millis(200), 1);
    let failed = ask(&mut ModelClient::new(silent, &SharedModels::default()).expect("a client")).await.0.expect_err("silence");
    assert_eq!((failed.kind, failed.message.as_str()), (ModelFailure::Connection, "nothing came for 200ms (tried 2 times)"));
    for (url, says) in [
        ("localhost:1", "begins with http://"),
        ("ftp://localhost", "begins with http://"),
        ("http://", "is wrong"),
        ("http://me:secret@localhost", "has a name and a password"),
    ] {
        let wrong = ModelClient::new(config(Anthropic::default(), url, &key), &SharedModels::default()).expect_err("no address");
        assert!(wrong.contains(says) && !wrong.contains("me:secret"), "{wrong}");
    }
}

#[tokio::test]
async fn chat_completions_work_whole_and_streamed() {
    let json = Answer {
        status: 200,
        headers: vec![("content-type", "application/json"), ("x-request-id", "req_2")],
        body: r#"{"model":"qwen","choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#.into(),
        end: End::Whole,
    };
    let chunks = sse("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", End::Whole);
    let (url, asked) = serve([json, chunks]).await;
    let key = key();
    let config = || ModelClientConfig { price: None, ..config(OpenAi::default(), &format!("{url}/v1/"), &key) };
    let mut whole = ModelClient::new(ModelClientConfig { stream: false, ..config() }, &SharedModels::default()).expect("a client");
    let reply = ask(&mut whole).await.0.expect("a reply");
    assert_eq!((reply.request.as_deref(), reply.usage.input, reply.usage.output), (Some("req_2"), 5, 2));
    let mut streamed = ModelClient::new(config(), &SharedModels::default()).expect("a client");
    let reply = ask(&mut streamed).await.0.expect("a reply");
    assert_eq!(reply.parts, [MessagePart::Text("hi".into())]);
    // This server never counts, so the count is marked as an estimate.
    let (spent, bytes) = (streamed.meter().spent(), asked.lock().expect("a lock")[1].1.len() as u64);
    assert_eq!((spent.usage.input, spent.usage.output, spent.guessed), (bytes.div_ceil(4), 1, 1));
    assert_eq!(reply.usage, spent.usage);
    assert_eq!(asked.lock().expect("a lock")[1].0["authorization"], format!("Bearer {KEY}"));
}

#[tokio::test]
async fn cassette_replays_a_session_with_its_failures() {
    let (url, _) = serve([error(529, &[("retry-after-ms", "1")], OVERLOADED), sse(BEGIN, End::Cut), whole()]).await;
    let (dir, key) = (tempfile::tempdir().expect("a folder"), key());
    let path = dir.path().join("cassette.jsonl");
    let recorder = CassetteRecorder::create(&path, None).expect("a cassette");
    let recorded = AnswerSource::Recorded(Arc::clone(&recorder), "s".into());
    let mut live =
        ModelClient::new(ModelClientConfig { source: recorded, ..config(Anthropic::default(), &url, &key) }, &SharedModels::default())
            .expect("a client");
    let (reply, notices) = ask(&mut live).await;
    let (reply, spent) = (reply.expect("a reply"), live.meter().spent());
    recorder.close().expect("written");
    assert!(!std::fs::read_to_string(&path).expect("the cassette").contains(KEY));
    let replay = Cassette::open(&path).expect("a cassette").session("s", Mode::Strict, None).expect("a session");
    let again = ModelClientConfig {
        source: AnswerSource::Cassette(replay),
        key: KeySource::None,
        ..config(Anthropic::default(), "http://127.0.0.1:1", &key)
    };
    let mut again = ModelClient::new(again, &SharedModels::default()).expect("a client");
    let (replayed, noticed) = ask(&mut again).await;
    let replayed = replayed.expect("a reply");
    assert_eq!((replayed.message.get(), replayed.request), (reply.message.get(), reply.request));
    assert_eq!((again.meter().spent(), noticed), (spent, notices));
    let over = ask(&mut again).await.0.expect_err("it is over");
    assert_eq!((over.kind, over.attempts), (ModelFailure::Cassette, 1));
}
