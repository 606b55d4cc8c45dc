//! Models, as their servers serve them: whoever asks has no key, and cannot spend more than it may.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Opening;
use super::ask::{self, Api, Asked, Target};
use super::budget::{Budget, Most};
use super::exchange::{Exchange, micros};
use super::problem::{self, Problem};
use super::server::Server;
use crate::agent::model::cassette::{SERVED, Tape};
use crate::agent::model::client::{LONGEST, Source};
use crate::agent::model::transport::Lost;
use crate::agent::model::wire::Trouble;
use crate::agent::model::{Failure, Meter};
use crate::emit::Emitter;
use crate::event::Kind;
use crate::scenario::model::{ServedModels, Wire};

/// Bytes of a request that are shown; the whole of it is in a file.
const SHOWN: usize = 4096;

pub(super) struct Models {
    servers: Vec<Server>,
    budget: Arc<Budget>,
    pub emitter: Emitter,
    run_dir: PathBuf,
    pub source: Source,
    /// None where a cassette does not tell how long prompts are.
    lengths: Option<Source>,
    pub tape: Tape,
    exchanges: AtomicU32,
    pub meter: Arc<Meter>,
    /// The limit that was over when a model was asked.
    pub refused: watch::Sender<Option<String>>,
    /// Since the last answer.
    pub outage: Mutex<Option<Outage>>,
    pub cassette_failed: AtomicBool,
}

/// Exchanges that came to nothing, one after the other, by no fault of who asked.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    /// When the first of them began.
    pub since: Instant,
    /// Why the last of them did.
    pub why: String,
}

impl Models {
    pub fn new(served: &[ServedModels], opening: Opening) -> Result<Self, String> {
        let Opening { limits, emitter, run_dir, tape, .. } = opening;
        let (source, lengths) = (tape.source(SERVED)?, tape.lengths()?);
        let meter: Arc<Meter> = Arc::default();
        Ok(Self {
            servers: served.iter().map(|served| Server::open(served, source.is_live())).collect::<Result<_, String>>()?,
            budget: Budget::new(limits, Arc::clone(&meter)),
            emitter,
            run_dir,
            source,
            lengths,
            tape,
            exchanges: AtomicU32::new(0),
            meter,
            refused: watch::Sender::new(None),
            outage: Mutex::default(),
            cassette_failed: AtomicBool::new(false),
        })
    }

    pub fn serves(&self, wire: Wire) -> bool {
        self.servers.iter().any(|server| server.declared == wire)
    }

    pub async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (api, length) = match Asked::of(&head.method, head.uri.path(), &head.headers) {
            Asked::Answer(api) => (api, false),
            Asked::Length => (Api::Messages, true),
            Asked::Known(wire) => return self.known(wire),
            Asked::Nothing(wire) => {
                return Problem::Path(format!("nothing is served at {} {}", head.method, head.uri.path())).response(wire);
            }
        };
        let body = match Limited::new(body, LONGEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Problem::Request(format!("the request cannot be read: {error}")).response(api.wire()),
        };
        let target = Target { api, path: head.uri.path_and_query().map_or("", |path| path.as_str()), length };
        match self.pass_on(&target, &head.headers, body).await {
            Ok(response) => response,
            Err(problem) => problem.response(api.wire()),
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
        let wire = target.api.wire();
        let number = if target.length { 0 } else { self.exchanges.fetch_add(1, Ordering::Relaxed) + 1 };
        let Some(server) = self.servers.iter().find(|server| server.declared == wire && server.names.contains(&model)) else {
            let served: Vec<&str> = self.servers.iter().flat_map(|server| &server.names).map(String::as_str).collect();
            let message = format!("model: {model} (served are: {})", if served.is_empty() { "none".into() } else { served.join(", ") });
            if !target.length {
                self.told(number, target, &model, &value, &body).await;
                let trouble = Trouble { status: Some(404), ..Trouble::new(Failure::Model, message.clone()) };
                self.record_failure(number, &trouble, 0.0, Instant::now());
            }
            return Err(Problem::Model(message));
        };
        if let Some(tool) = ask::reaches_out(&value) {
            let message =
                format!("`{tool}` is of the model's server, which would reach beyond the sandbox: tools that it runs are not served");
            if !target.length {
                self.told(number, target, &model, &value, &body).await;
                let trouble = Trouble { status: Some(400), ..Trouble::new(Failure::Request, message.clone()) };
                self.record_failure(number, &trouble, 0.0, Instant::now());
            }
            return Err(Problem::Request(message));
        }
        if target.length {
            return self.measure(server, target, headers, body).await;
        }
        self.told(number, target, &model, &value, &body).await;
        let most = Most::of(body.len(), target.api.longest(&value), server.price(&model).as_ref());
        let waits = || self.delayed(number, "what is left of the budget may not do for all requests at once".into(), Duration::ZERO);
        let reserved = match self.budget.reserve(most, waits).await {
            Ok(reserved) => Some(reserved),
            Err(limit) => {
                let message = format!("{limit}: there are no more answers");
                let status = Problem::Spent(String::new()).status(wire);
                let trouble = Trouble { status: Some(status), ..Trouble::new(Failure::Quota, message.clone()) };
                self.record_failure(number, &trouble, 0.0, Instant::now());
                self.refused.send_replace(Some(limit));
                return Err(Problem::Spent(message));
            }
        };
        let exchange = Exchange { models: Arc::clone(self), number, began: Instant::now(), reserved };
        exchange.run(server, target, headers, body, &model).await
    }

    /// A question that costs nothing and is no exchange with a model.
    async fn measure(&self, server: &Server, target: &Target<'_>, headers: &HeaderMap, body: Bytes) -> Result<Response<Body>, Problem> {
        let unknown = || Problem::Path("the cassette does not tell how long this prompt is".into());
        let source = self.lengths.as_ref().ok_or_else(unknown)?;
        // A program that asks more often than then has nothing from it that it cannot do without.
        let lost = |lost: &Lost| if matches!(lost, Lost::Cassette(_)) { unknown() } else { server.lost(lost) };
        let incoming = server.send(source, target, headers, body).await.map_err(|error| lost(&error))?;
        let (status, headers) = (incoming.status, incoming.headers.clone());
        let bytes = server.whole(incoming.body).await.map_err(|error| lost(&error))?;
        Ok(server.response(status, &headers, Body::from(server.without_key(status, bytes))))
    }

    /// What is asked, for the record.
    async fn told(&self, exchange: u32, target: &Target<'_>, model: &str, value: &Value, body: &Bytes) {
        let file = format!("models/{exchange}.json");
        let kept = keep(&self.run_dir.join(&file), body).await;
        if let Err(error) = &kept {
            self.emitter.warn(format!("what model {model} was asked could not be kept: {error}"));
        }
        let said = target.api.said(value);
        let last = said.last().map_or_else(String::new, Value::to_string);
        self.emitter.emit(Kind::ModelAsked { exchange, entries: said.len() });
        self.emitter.emit(Kind::RequestPassed {
            exchange,
            wire: target.api.wire().as_str().into(),
            model: model.into(),
            last: cut(&last),
            bytes: body.len() as u64,
            file: kept.is_ok().then_some(file),
        });
    }

    pub fn delayed(&self, exchange: u32, why: String, wait: Duration) {
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.emitter.emit(Kind::ModelDelayed { exchange, status: None, why, wait_us });
    }

    pub fn failed(&self, exchange: u32, trouble: &Trouble, usd: f64, began: Instant) {
        // Who asks wrongly, or for too much, has nobody else to blame.
        if !matches!(trouble.kind, Failure::Request | Failure::ContextFull | Failure::Refusal) {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            let since = outage.take().map_or(began, |outage| outage.since.min(began));
            *outage = Some(Outage { since, why: trouble.message.clone() });
        }
        self.record_failure(exchange, trouble, usd, began);
    }

    pub fn record_failure(&self, exchange: u32, trouble: &Trouble, usd: f64, began: Instant) {
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
