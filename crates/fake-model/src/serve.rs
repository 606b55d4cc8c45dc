//! HTTP server of the fake model: paths, headers, and delays of the script.
#![expect(clippy::print_stdout, reason = "the process that started the server reads its address there")]

use std::future::IntoFuture as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::args::Args;
use super::decide::AnswerApi;
use super::limits::FakeLimits;
use super::problem::{ApiProblem, FakeWire};
use super::record::{RequestRecord, RequestResult};
use super::server::FakeServer;
use super::turn::Script;
use super::{anthropic, openai};

/// Largest request body in bytes, as in the real servers.
const LARGEST: usize = 32 << 20;
/// Longest time that a graceful end waits for answers in progress.
const FAREWELL: Duration = Duration::from_millis(300);
/// Names of the listed models if the script names none.
const MODELS: [&str; 2] = ["claude-opus-5-5", "gpt-6.1-sol"];

type Asked = Result<Bytes, BytesRejection>;

/// Runs the fake model server until the process ends.
///
/// # Errors
/// Returns an error if the server cannot listen or cannot open its request log.
pub fn run(script: Script, args: &Args) -> anyhow::Result<()> {
    let record = RequestRecord::open(args.log.as_deref());
    let record = record.with_context(|| format!("cannot write to `{}`", args.log.clone().unwrap_or_default().display()))?;
    let server = Arc::new(FakeServer {
        limits: FakeLimits::new(script.rate),
        script,
        conversations: Mutex::default(),
        record,
        requests: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot make a runtime")?.block_on(serve(server, &args.listen))
}

async fn serve(server: Arc<FakeServer>, listen: &str) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on `{listen}`"))?;
    println!("http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // Small pieces must not wait for the TCP acknowledgement of the previous piece.
        let _ = stream.set_nodelay(true);
    });
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let end = tokio_util::sync::CancellationToken::new();
    let serving = axum::serve(listener, router(server)).with_graceful_shutdown(end.clone().cancelled_owned());
    let serving = tokio::spawn(serving.into_future());
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    end.cancel();
    let _ = tokio::time::timeout(FAREWELL, serving).await;
    Ok(())
}

fn router(server: Arc<FakeServer>) -> axum::Router {
    axum::Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/v1/chat/completions", post(completions))
        .route("/v1/responses", post(responses))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(server)
}

type Shared = State<Arc<FakeServer>>;

async fn messages(State(server): Shared, method: Method, uri: Uri, headers: HeaderMap, body: Asked) -> Response {
    server.answer(AnswerApi::Messages, (&method, &uri), &headers, body).await
}

async fn completions(State(server): Shared, method: Method, uri: Uri, headers: HeaderMap, body: Asked) -> Response {
    server.answer(AnswerApi::Completions, (&method, &uri), &headers, body).await
}

async fn responses(State(server): Shared, method: Method, uri: Uri, headers: HeaderMap, body: Asked) -> Response {
    server.answer(AnswerApi::Responses, (&method, &uri), &headers, body).await
}

async fn count_tokens(State(server): Shared, method: Method, uri: Uri, headers: HeaderMap, body: Asked) -> Response {
    let request = server.request_id();
    let counted = read(body).and_then(|(bytes, value)| {
        anthropic::request::authenticate(&headers, server.script.key.as_deref())?;
        Ok((bytes, anthropic::request::check(&value, &headers, &server.script, true)?))
    });
    let (bytes, outcome) = match counted {
        Ok((bytes, asked)) => (bytes, Ok(json!({ "input_tokens": asked.seen.prompt }))),
        Err(problem) => (Bytes::new(), Err(problem)),
    };
    server.plain(FakeWire::Anthropic, &request, (&method, &uri), &headers, &bytes, outcome)
}

async fn models(State(server): Shared, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let (wire, request) = (wire_of(&headers), server.request_id());
    let outcome = server.authenticate(wire, &headers).map(|()| {
        let list: Vec<Value> = server.known_models().iter().map(|id| server.model(wire, id)).collect();
        match wire {
            FakeWire::Anthropic => {
                let of = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
                json!({ "first_id": of(list.first()), "last_id": of(list.last()), "data": list, "has_more": false })
            }
            FakeWire::OpenAi => json!({ "object": "list", "data": list }),
        }
    });
    server.plain(wire, &request, (&method, &uri), &headers, &[], outcome)
}

async fn model(State(server): Shared, Path(id): Path<String>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let (wire, request) = (wire_of(&headers), server.request_id());
    let outcome = server.authenticate(wire, &headers).and_then(|()| {
        let known = server.known_models().iter().any(|known| *known == id);
        if known { Ok(server.model(wire, &id)) } else { Err(ApiProblem::new(404, format!("model: {id}"))) }
    });
    server.plain(wire, &request, (&method, &uri), &headers, &[], outcome)
}

async fn unknown(State(server): Shared, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let (wire, request) = (wire_of(&headers), server.request_id());
    let problem = match wire {
        FakeWire::Anthropic => ApiProblem::new(404, "Not found"),
        FakeWire::OpenAi => {
            ApiProblem { code: Some("unknown_url".into()), ..ApiProblem::new(404, format!("Invalid URL ({method} {})", uri.path())) }
        }
    };
    server.plain(wire, &request, (&method, &uri), &headers, &[], Err(problem))
}

/// Returns the wire format of a request to a path that both APIs have. Only clients of Anthropic send a version header.
fn wire_of(headers: &HeaderMap) -> FakeWire {
    if headers.contains_key("anthropic-version") { FakeWire::Anthropic } else { FakeWire::OpenAi }
}

fn read(body: Asked) -> Result<(Bytes, Value), ApiProblem> {
    let bytes = body.map_err(|rejected| match rejected.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiProblem::new(413, "Request exceeds the maximum size"),
        _ => ApiProblem::invalid(rejected.body_text()),
    })?;
    let value =
        serde_json::from_slice(&bytes).map_err(|error| ApiProblem::invalid(format!("The request body is not valid JSON: {error}")))?;
    Ok((bytes, value))
}

impl FakeServer {
    fn request_id(&self) -> String {
        format!("req_{:012}", self.requests.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub fn authenticate(&self, wire: FakeWire, headers: &HeaderMap) -> Result<(), ApiProblem> {
        let key = self.script.key.as_deref();
        match wire {
            FakeWire::Anthropic => anthropic::request::authenticate(headers, key),
            FakeWire::OpenAi => openai::request::authenticate(headers, key),
        }
    }

    fn known_models(&self) -> Vec<&str> {
        if self.script.models.is_empty() { MODELS.to_vec() } else { self.script.models.iter().map(String::as_str).collect() }
    }

    fn model(&self, wire: FakeWire, id: &str) -> Value {
        match wire {
            FakeWire::Anthropic => json!({
                "type": "model",
                "id": id,
                "display_name": id,
                "created_at": "1970-01-01T00:00:00Z",
                "lifecycle": "active",
                "deprecated_at": null,
                "retires_at": null,
                "max_input_tokens": self.script.context,
                "max_tokens": 128_000,
            }),
            FakeWire::OpenAi => {
                json!({ "id": id, "object": "model", "created": 0, "owned_by": "fake", "max_model_len": self.script.context })
            }
        }
    }

    async fn answer(self: Arc<Self>, api: AnswerApi, target: (&Method, &Uri), headers: &HeaderMap, body: Asked) -> Response {
        let (wire, request) = (api.wire(), self.request_id());
        let mut answered = RequestResult { status: 200, ..RequestResult::default() };
        let (bytes, decided) = match read(body) {
            Ok((bytes, value)) => {
                let decided = self.decide(api, headers, &value, &mut answered);
                (bytes, decided)
            }
            Err(problem) => (Bytes::new(), Err(problem.into())),
        };
        if let Err(refused) = &decided {
            answered.status = refused.problem.status;
            answered.problem = Some(refused.problem.message.clone());
        }
        self.record.write(&request, target, headers, &bytes, &answered);
        let latency = decided.as_ref().map_or_else(|refused| refused.latency, |ready| ready.latency);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match decided {
            Ok(ready) => {
                let kind = if ready.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
                let length = ready.delivery.length.map(|length| ("content-length".to_owned(), length.to_string()));
                let standing = ready.standing.headers(wire);
                let mut response = response(StatusCode::OK, kind, ready.delivery.body(ready.landing));
                put(&mut response, standing.into_iter().chain(length).chain(names(wire, &request)));
                if ready.stream {
                    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                }
                response
            }
            Err(refused) => {
                let mut response = refusal(wire, &request, &refused.problem);
                let standing = refused.standing.map(|standing| standing.headers(wire)).unwrap_or_default();
                // Headers of the script replace these headers.
                let given = response.headers().clone();
                put(&mut response, standing.into_iter().filter(|(name, _)| !given.contains_key(name)));
                response
            }
        }
    }

    /// Creates and logs a response that does not depend on the script.
    fn plain(
        &self,
        wire: FakeWire,
        request: &str,
        target: (&Method, &Uri),
        headers: &HeaderMap,
        body: &[u8],
        outcome: Result<Value, ApiProblem>,
    ) -> Response {
        let mut answered = RequestResult { status: 200, ..RequestResult::default() };
        let response = match outcome {
            Ok(value) => {
                let mut response = response(StatusCode::OK, "application/json", Body::from(value.to_string()));
                put(&mut response, names(wire, request));
                response
            }
            Err(problem) => {
                let response = refusal(wire, request, &problem);
                (answered.status, answered.problem) = (problem.status, Some(problem.message));
                response
            }
        };
        self.record.write(request, target, headers, body, &answered);
        response
    }
}

fn refusal(wire: FakeWire, request: &str, problem: &ApiProblem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match problem.body(wire, request) {
        Value::String(text) => response(status, "text/plain; charset=utf-8", Body::from(text)),
        value => response(status, "application/json", Body::from(value.to_string())),
    };
    put(&mut response, names(wire, request));
    put(&mut response, problem.headers.iter().cloned());
    response
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Returns the response headers that identify the request.
fn names(wire: FakeWire, request: &str) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    match wire {
        FakeWire::Anthropic => vec![pair("request-id", request), pair("anthropic-organization-id", "00000000-0000-0000-0000-000000000000")],
        FakeWire::OpenAi => vec![pair("x-request-id", request), pair("openai-version", "2020-10-01"), pair("openai-organization", "fake")],
    }
}

fn put(response: &mut Response, headers: impl IntoIterator<Item = (String, String)>) {
    for (name, value) in headers {
        // The headers of the script were already checked when the script was loaded.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
}
