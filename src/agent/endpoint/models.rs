//! Models, as their servers serve them: whoever asks has no key, and cannot spend more than it may.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Limited};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Opening;
use super::problem::{self, Problem};
use crate::agent::model::cassette::{SERVED, Tape};
use crate::agent::model::client::{LONGEST, SILENCE, Source, address, server_time};
use crate::agent::model::declared::{self, SHARED, price_of};
use crate::agent::model::key::{Key, scrub};
use crate::agent::model::limiter::{Limiter, Permit};
use crate::agent::model::prices::Price;
use crate::agent::model::retry::Advice;
use crate::agent::model::sse::Decoder;
use crate::agent::model::tally::Count;
use crate::agent::model::transport::{Body as Pieces, Incoming, Lost, Outgoing};
use crate::agent::model::wire::{self, Assembly, Trouble};
use crate::agent::model::{Failure, Meter, Part, Reply};
use crate::agent::run::paid;
use crate::emit::Emitter;
use crate::event::{Kind, ToolCall};
use crate::scenario::model::{Limits, ServedModels, Wire};

/// Of the Messages API, for a request that names none.
const VERSION: &str = "2023-06-01";
/// Bytes of a request that are shown; the whole of it is in a file.
const SHOWN: usize = 4096;

/// Headers that are between two neighbours, or that would say who asks; and the one that would make an answer unreadable to us.
const NOT_PASSED_ON: [&str; 19] = [
    "accept-encoding",
    "api-key",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-api-key",
];

pub(super) struct Models {
    servers: Vec<Server>,
    limits: Limits,
    emitter: Emitter,
    run_dir: PathBuf,
    source: Source,
    pub tape: Tape,
    exchanges: AtomicU32,
    pub meter: Arc<Meter>,
    /// The limit that was over when a model was asked.
    pub refused: watch::Sender<Option<String>>,
    pub failure: Mutex<Option<String>>,
    pub cassette_failed: AtomicBool,
}

/// One server and what of it is served.
struct Server {
    declared: Wire,
    wire: Arc<dyn wire::Wire>,
    base_url: String,
    names: Vec<String>,
    price: Option<crate::scenario::model::Price>,
    key: Option<Key>,
    limiter: Option<Arc<Limiter>>,
}

/// What is asked for.
enum Asked {
    /// An answer of a model.
    Answer(Wire),
    /// How long a prompt would be: nothing is paid for that.
    Length,
    Known(Wire),
    Nothing(Wire),
}

fn asked(method: &Method, path: &str, headers: &HeaderMap) -> Asked {
    // One path serves both; only one of them says its version.
    let wire = if headers.contains_key("anthropic-version") { Wire::Anthropic } else { Wire::Openai };
    match (method, path) {
        (&Method::POST, "/v1/messages") => Asked::Answer(Wire::Anthropic),
        (&Method::POST, "/v1/messages/count_tokens") => Asked::Length,
        (&Method::POST, "/v1/chat/completions") => Asked::Answer(Wire::Openai),
        (&Method::GET, "/v1/models") => Asked::Known(wire),
        (_, path) if path.starts_with("/v1/messages") => Asked::Nothing(Wire::Anthropic),
        _ => Asked::Nothing(wire),
    }
}

impl Models {
    pub fn new(served: &[ServedModels], opening: Opening) -> Result<Self, String> {
        let Opening { limits, emitter, run_dir, tape, .. } = opening;
        let source = tape.source(SERVED)?;
        let server = |served: &ServedModels| {
            // Whoever asks says the version itself.
            let wire = declared::wire(served.wire, &served.base_url, VERSION)?;
            address(&served.base_url, wire.path())?;
            let key = match served.key.read() {
                Ok(key) => key,
                // A record needs none.
                Err(_) if !source.is_live() => None,
                Err(error) => return Err(error.to_string()),
            };
            Ok(Server {
                declared: served.wire,
                wire,
                base_url: served.base_url.clone(),
                names: served.names.clone(),
                price: served.price,
                limiter: source.is_live().then(|| SHARED.limiter(&served.base_url, key.as_ref())),
                key,
            })
        };
        Ok(Self {
            servers: served.iter().map(server).collect::<Result<_, String>>()?,
            limits,
            emitter,
            run_dir,
            source,
            tape,
            exchanges: AtomicU32::new(0),
            meter: Arc::default(),
            refused: watch::Sender::new(None),
            failure: Mutex::default(),
            cassette_failed: AtomicBool::new(false),
        })
    }

    pub fn serves(&self, wire: Wire) -> bool {
        self.servers.iter().any(|server| server.declared == wire)
    }

    pub async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (wire, length) = match asked(&head.method, head.uri.path(), &head.headers) {
            Asked::Answer(wire) => (wire, false),
            Asked::Length => (Wire::Anthropic, true),
            Asked::Known(wire) => return self.known(wire),
            Asked::Nothing(wire) => {
                return Problem::Path(format!("nothing is served at {} {}", head.method, head.uri.path())).response(wire);
            }
        };
        let body = match Limited::new(body, LONGEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Problem::Request(format!("the request cannot be read: {error}")).response(wire),
        };
        let target = Target { wire, path: head.uri.path_and_query().map_or("", |path| path.as_str()), length };
        match self.pass_on(&target, &head.headers, body).await {
            Ok(response) => response,
            Err(problem) => problem.response(wire),
        }
    }

    /// The models that are served, in the form of a wire.
    fn known(&self, wire: Wire) -> Response<Body> {
        let names = self.servers.iter().filter(|server| server.declared == wire).flat_map(|server| &server.names);
        let list: Vec<Value> = match wire {
            Wire::Anthropic => names.map(|name| json!({ "type": "model", "id": name, "display_name": name })).collect(),
            Wire::Openai => names.map(|name| json!({ "id": name, "object": "model", "created": 0, "owned_by": "" })).collect(),
        };
        let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
        let (first, last) = (id(list.first()), id(list.last()));
        problem::json(200, &json!({ "object": "list", "data": list, "has_more": false, "first_id": first, "last_id": last }))
    }

    async fn pass_on(self: &Arc<Self>, target: &Target<'_>, headers: &HeaderMap, body: Bytes) -> Result<Response<Body>, Problem> {
        let value: Value = serde_json::from_slice(&body).map_err(|error| Problem::Request(format!("the body is not JSON: {error}")))?;
        let Some(model) = value["model"].as_str().map(str::to_owned) else {
            return Err(Problem::Request("the body has no `model`".into()));
        };
        let exchange = if target.length { 0 } else { self.exchanges.fetch_add(1, Ordering::Relaxed) + 1 };
        let Some(server) = self.servers.iter().find(|server| server.declared == target.wire && server.names.contains(&model)) else {
            let served: Vec<&str> = self.servers.iter().flat_map(|server| &server.names).map(String::as_str).collect();
            let message = format!("model: {model} (served are: {})", if served.is_empty() { "none".into() } else { served.join(", ") });
            if !target.length {
                self.told(exchange, target, &model, &value, &body).await;
                self.failed(exchange, &Trouble { status: Some(404), ..Trouble::new(Failure::Model, message.clone()) }, 0.0, Instant::now());
            }
            return Err(Problem::Model(message));
        };
        if target.length {
            return self.measure(server, target, headers, body).await;
        }
        self.told(exchange, target, &model, &value, &body).await;
        if let Some(limit) = paid(&self.limits, self.meter.spent()) {
            let message = format!("{limit}: there are no more answers");
            let status = Problem::Spent(String::new()).status(target.wire);
            let trouble = Trouble { status: Some(status), ..Trouble::new(Failure::Quota, message.clone()) };
            self.record_failure(exchange, &trouble, 0.0, Instant::now());
            self.refused.send_replace(Some(limit));
            return Err(Problem::Spent(message));
        }
        let price = price_of(server.price, &model);
        let exchange = Exchange { models: Arc::clone(self), number: exchange, began: Instant::now(), before: self.meter.spent().usd };
        exchange.run(server, target, headers, body, price).await
    }

    /// A question that costs nothing and is no exchange with a model.
    async fn measure(&self, server: &Server, target: &Target<'_>, headers: &HeaderMap, body: Bytes) -> Result<Response<Body>, Problem> {
        if !matches!(self.source, Source::Live | Source::Recorded(..)) {
            return Err(Problem::Path("a record cannot tell how long a prompt is".into()));
        }
        let live = Source::Live;
        let incoming = server.send(&live, target, headers, body).await.map_err(|lost| server.lost(&lost))?;
        let (status, headers) = (incoming.status, incoming.headers.clone());
        let bytes = server.whole(incoming.body).await.map_err(|lost| server.lost(&lost))?;
        Ok(server.response(status, &headers, Body::from(server.without_key(status, bytes))))
    }

    /// What is asked, for the record.
    async fn told(&self, exchange: u32, target: &Target<'_>, model: &str, value: &Value, body: &Bytes) {
        let file = format!("models/{exchange}.json");
        let kept = keep(&self.run_dir.join(&file), body).await;
        if let Err(error) = &kept {
            self.emitter.warn(format!("what model {model} was asked could not be kept: {error}"));
        }
        let messages = value["messages"].as_array();
        let last = messages.and_then(|messages| messages.last()).map_or_else(String::new, Value::to_string);
        self.emitter.emit(Kind::ModelAsked { exchange, entries: messages.map_or(0, Vec::len) });
        self.emitter.emit(Kind::RequestPassed {
            exchange,
            wire: target.wire.as_str().into(),
            model: model.into(),
            last: cut(&last),
            bytes: body.len() as u64,
            file: kept.is_ok().then_some(file),
        });
    }

    fn failed(&self, exchange: u32, trouble: &Trouble, usd: f64, began: Instant) {
        // Who asks wrongly, or for too much, has nobody else to blame.
        if !matches!(trouble.kind, Failure::Request | Failure::ContextFull | Failure::Refusal) {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            *failure = Some(trouble.message.clone());
        }
        self.record_failure(exchange, trouble, usd, began);
    }

    fn record_failure(&self, exchange: u32, trouble: &Trouble, usd: f64, began: Instant) {
        self.emitter.emit(Kind::ModelFailed {
            exchange,
            failure: trouble.kind.word().into(),
            status: trouble.status,
            message: trouble.message.clone(),
            attempts: 1,
            usd,
            took_us: micros(began),
        });
    }
}

/// A request of the agent's.
struct Target<'a> {
    wire: Wire,
    /// With what follows a `?`.
    path: &'a str,
    length: bool,
}

impl Server {
    async fn send(&self, source: &Source, target: &Target<'_>, headers: &HeaderMap, body: Bytes) -> Result<Incoming, Lost> {
        let path = match self.declared {
            Wire::Anthropic => target.path,
            // Their base URLs end with it.
            Wire::Openai => target.path.strip_prefix("/v1").unwrap_or(target.path),
        };
        let url = address(&self.base_url, path).map_err(Lost::Connection)?;
        let mut transport = source.transport(&SHARED, url, self.wire.as_ref(), self.key.clone()).map_err(Lost::Connection)?;
        let mut passed: HeaderMap =
            headers.iter().filter(|(name, _)| passes(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
        for (name, value) in self.wire.headers(self.key.as_ref()) {
            let Some(name) = name else { continue };
            if matches!(name.as_str(), "x-api-key" | "authorization") || !passed.contains_key(&name) {
                passed.insert(name, value);
            }
        }
        let sent = tokio::time::timeout(SILENCE, transport.send(Outgoing { headers: passed, body })).await;
        sent.unwrap_or_else(|_| Err(Lost::Connection("the server says nothing".into())))
    }

    async fn whole(&self, mut body: Pieces) -> Result<Bytes, Lost> {
        let mut bytes = Vec::new();
        while let Some(piece) = piece(&mut body).await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > LONGEST {
                return Err(Lost::Connection(format!("the answer is longer than {} MiB", LONGEST >> 20)));
            }
        }
        Ok(bytes.into())
    }

    fn lost(&self, lost: &Lost) -> Problem {
        let message = scrub(&lost.to_string(), self.key.as_ref());
        match lost {
            Lost::Connection(_) => Problem::Server(message),
            Lost::Cassette(_) | Lost::Diverged(_) => Problem::Cassette(message),
        }
    }

    /// Servers repeat in what they say of an error a part of what they were given.
    fn without_key(&self, status: u16, bytes: Bytes) -> Bytes {
        if (200..300).contains(&status) {
            return bytes;
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Bytes::from(scrub(text, self.key.as_ref())),
            Err(_) => Bytes::new(),
        }
    }

    fn response(&self, status: u16, headers: &HeaderMap, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        for (name, value) in headers.iter().filter(|(name, _)| passes(name)) {
            let clean = value.to_str().is_ok_and(|text| scrub(text, self.key.as_ref()) == text);
            if clean {
                response.headers_mut().append(name, value.clone());
            }
        }
        response
    }
}

fn passes(name: &HeaderName) -> bool {
    !NOT_PASSED_ON.contains(&name.as_str()) && name != CONTENT_LENGTH
}

async fn piece(body: &mut Pieces) -> Option<Result<Bytes, Lost>> {
    match tokio::time::timeout(SILENCE, body.next()).await {
        Ok(piece) => piece,
        Err(_) => Some(Err(Lost::Connection("the server says nothing more".into()))),
    }
}

/// One that is under way.
struct Exchange {
    models: Arc<Models>,
    number: u32,
    began: Instant,
    /// Dollars that were spent before it.
    before: f64,
}

impl Exchange {
    async fn run(
        self,
        server: &Server,
        target: &Target<'_>,
        headers: &HeaderMap,
        body: Bytes,
        price: Option<Price>,
    ) -> Result<Response<Body>, Problem> {
        let models = Arc::clone(&self.models);
        let waits = |why, wait: std::time::Duration| {
            let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
            models.emitter.emit(Kind::ModelDelayed { exchange: self.number, status: None, why, wait_us });
        };
        let permit = match &server.limiter {
            Some(limiter) => Some(limiter.admit(waits).await),
            None => None,
        };
        let mut count = Count::begin(Arc::clone(&models.meter), price, body.len());
        let incoming = match server.send(&models.source, target, headers, body).await {
            Ok(incoming) => incoming,
            Err(lost) => return Err(self.lost(server, &lost)),
        };
        let Incoming { status, headers, body, diverged } = incoming;
        if let Some(divergence) = diverged {
            models.emitter.emit(divergence.event(false));
        }
        let now = server_time(&headers);
        if let Some(permit) = &permit {
            permit.heard(&server.wire.allowances(&headers, now));
        }
        let request = server.wire.request_id(&headers);
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if (200..300).contains(&status) && kind.contains("event-stream") {
            let assembly = Some(server.wire.assembly());
            let tap =
                Tap { exchange: self, body, permit, count: Some(count), decoder: Decoder::default(), assembly, trouble: None, request };
            let pieces = futures_util::stream::unfold(Some(tap), |tap| async move {
                let mut tap = tap?;
                let piece = tap.next().await?;
                let go_on = piece.is_ok();
                Some((piece, go_on.then_some(tap)))
            });
            return Ok(server.response(status, &headers, Body::from_stream(pieces)));
        }
        let bytes = match server.whole(body).await {
            Ok(bytes) => bytes,
            Err(lost) => return Err(self.lost(server, &lost)),
        };
        if (200..300).contains(&status) {
            let text = String::from_utf8_lossy(&bytes);
            match server.wire.reply(&text) {
                Ok(mut reply) => {
                    count.see_whole(reply.usage, text.len());
                    reply.usage = count.end(reply.usage);
                    reply.request = reply.request.or(request);
                    self.answered(&reply, permit.as_ref());
                }
                Err(trouble) => {
                    count.see_whole(crate::event::Usage::default(), text.len());
                    self.failed(&trouble.with_request(request));
                }
            }
            return Ok(server.response(status, &headers, Body::from(bytes)));
        }
        let bytes = server.without_key(status, bytes);
        let trouble = server.wire.trouble(status, &String::from_utf8_lossy(&bytes)).with_request(request);
        if let Some(permit) = permit.filter(|_| matches!(trouble.kind, Failure::RateLimit | Failure::Overloaded)) {
            permit.refused(Advice::of(&headers, now).after);
        }
        self.failed(&trouble);
        Ok(server.response(status, &headers, Body::from(bytes)))
    }

    fn lost(&self, server: &Server, lost: &Lost) -> Problem {
        if let Lost::Diverged(divergence) = lost {
            self.models.emitter.emit(divergence.as_ref().clone().event(true));
        }
        self.models.cassette_failed.fetch_or(!matches!(lost, Lost::Connection(_)), Ordering::Relaxed);
        let kind = if matches!(lost, Lost::Connection(_)) { Failure::Connection } else { Failure::Cassette };
        let trouble = Trouble::new(kind, scrub(&lost.to_string(), server.key.as_ref()));
        self.failed(&trouble);
        server.lost(lost)
    }

    /// Dollars, so far.
    fn cost(&self) -> f64 {
        self.models.meter.spent().usd - self.before
    }

    fn failed(&self, trouble: &Trouble) {
        self.models.failed(self.number, trouble, self.cost(), self.began);
    }

    fn answered(&self, reply: &Reply, permit: Option<&Permit>) {
        if let Some(permit) = permit {
            permit.succeeded();
        }
        *self.models.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let text = |wanted: fn(&Part) -> Option<&str>| reply.parts.iter().filter_map(wanted).collect::<Vec<_>>().join("\n");
        let calls = reply.parts.iter().filter_map(|part| match part {
            Part::Call(call) => Some(ToolCall {
                id: call.id.clone(),
                tool: call.tool.clone(),
                arguments: call.arguments.as_ref().map_or_else(|bad| Value::from(bad.text.as_str()), |map| Value::Object(map.clone())),
            }),
            _ => None,
        });
        self.models.emitter.emit(Kind::ModelAnswered {
            exchange: self.number,
            model: reply.model.clone(),
            request: reply.request.clone(),
            thinking: text(|part| if let Part::Thinking(text) = part { Some(text) } else { None }),
            text: text(|part| if let Part::Text(text) = part { Some(text) } else { None }),
            calls: calls.collect(),
            stop: reply.stop.word().into(),
            usage: reply.usage,
            usd: self.cost(),
            took_us: micros(self.began),
        });
    }
}

/// An answer that comes in pieces, looked at as it passes.
struct Tap {
    exchange: Exchange,
    body: Pieces,
    permit: Option<Permit>,
    count: Option<Count>,
    decoder: Decoder,
    /// None once it is told how the exchange went.
    assembly: Option<Box<dyn Assembly>>,
    trouble: Option<Trouble>,
    request: Option<String>,
}

impl Tap {
    async fn next(&mut self) -> Option<Result<Bytes, Lost>> {
        let piece = piece(&mut self.body).await;
        match &piece {
            Some(Ok(bytes)) => self.look(bytes),
            Some(Err(lost)) => {
                let kind = if matches!(lost, Lost::Connection(_)) { Failure::Connection } else { Failure::Cassette };
                self.trouble.get_or_insert_with(|| Trouble::new(kind, lost.to_string()));
                self.conclude();
            }
            None => self.conclude(),
        }
        piece
    }

    fn look(&mut self, bytes: &Bytes) {
        let Some(assembly) = &mut self.assembly else { return };
        for event in self.decoder.push(bytes) {
            if self.trouble.is_none() {
                self.trouble = assembly.take(&event).err();
            }
            if let Some(count) = &mut self.count {
                count.see(assembly.tally());
            }
        }
        // Who asked need not wait for the end of the connection.
        if assembly.ended() {
            self.conclude();
        }
    }

    /// Tells how it went, once.
    fn conclude(&mut self) {
        let (Some(assembly), Some(mut count)) = (self.assembly.take(), self.count.take()) else { return };
        let finished = match self.trouble.take() {
            Some(trouble) => Err(trouble),
            None => assembly.finish(),
        };
        match finished {
            Ok(mut reply) => {
                reply.usage = count.end(reply.usage);
                reply.request = reply.request.or(self.request.take());
                self.exchange.answered(&reply, self.permit.as_ref());
            }
            Err(trouble) => {
                let trouble = trouble.with_request(self.request.take());
                self.exchange.failed(&trouble);
            }
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if self.assembly.is_some() {
            let trouble = Trouble::new(Failure::Connection, "the agent did not wait for the end of the answer");
            let usd = self.exchange.cost();
            self.exchange.models.record_failure(self.exchange.number, &trouble, usd, self.exchange.began);
        }
    }
}

async fn keep(path: &Path, body: &Bytes) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(path, body).await
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} more bytes)", &text[..at], text.len() - at),
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
