//! Model endpoints of an external agent. They add the API key to requests and enforce the spending limit.

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
use super::ask::{self, EndpointRequest, ModelApi, RequestTarget};
use super::budget::{Most, RequestBudget};
use super::exchange::{Exchange, micros};
use super::problem::{self, EndpointProblem};
use super::server::EndpointServer;
use chaosrun_event::EventKind;
use chaosrun_event::emit::Emitter;
use chaosrun_models::cassette::{SERVED, Tape};
use chaosrun_models::client::{AnswerSource, LONGEST};
use chaosrun_models::transport::TransportError;
use chaosrun_models::wire::AttemptError;
use chaosrun_models::{CostMeter, ModelFailure};
use chaosrun_scenario::model::{ServedModels, Wire};

/// Maximum number of bytes of a request that its event contains. The full request is saved in a file.
const SHOWN: usize = 4096;

pub(super) struct Models {
    servers: Vec<EndpointServer>,
    budget: Arc<RequestBudget>,
    pub emitter: Emitter,
    run_dir: PathBuf,
    pub source: AnswerSource,
    /// Source of prompt lengths. `None` if the cassette has no prompt lengths.
    lengths: Option<AnswerSource>,
    pub tape: Tape,
    exchanges: AtomicU32,
    pub meter: Arc<CostMeter>,
    /// Limit that refused a request to a model. `None` until a request is refused.
    pub refused: watch::Sender<Option<String>>,
    /// Outage since the last answer. `None` if no exchange has failed since then.
    pub outage: Mutex<Option<Outage>>,
    pub cassette_failed: AtomicBool,
}

/// Series of consecutive failed exchanges that are not the agent's fault.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    /// Start time of the first failed exchange.
    pub since: Instant,
    /// Error of the last failed exchange.
    pub why: String,
}

impl Models {
    pub fn new(served: &[ServedModels], opening: Opening) -> Result<Self, String> {
        let Opening { limits, emitter, run_dir, tape, .. } = opening;
        let (source, lengths) = (tape.source(SERVED)?, tape.lengths()?);
        let meter: Arc<CostMeter> = Arc::default();
        Ok(Self {
            servers: served.iter().map(|served| EndpointServer::open(served, source.is_live())).collect::<Result<_, String>>()?,
            budget: RequestBudget::new(limits, Arc::clone(&meter)),
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
        let (api, length) = match EndpointRequest::of(&head.method, head.uri.path(), &head.headers) {
            EndpointRequest::Answer(api) => (api, false),
            EndpointRequest::Length => (ModelApi::Messages, true),
            EndpointRequest::Known(wire) => return self.known(wire),
            EndpointRequest::Nothing(wire) => {
                return EndpointProblem::Path(format!("no endpoint at {} {}", head.method, head.uri.path())).response(wire);
            }
        };
        let body = match Limited::new(body, LONGEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return EndpointProblem::Request(format!("cannot read the request: {error}")).response(api.wire()),
        };
        let target = RequestTarget { api, path: head.uri.path_and_query().map_or("", |path| path.as_str()), length };
        match self.pass_on(&target, &head.headers, body).await {
            Ok(response) => response,
            Err(problem) => problem.response(api.wire()),
        }
    }

    /// Returns a response that lists the served models in the format of a wire.
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

    async fn pass_on(
        self: &Arc<Self>,
        target: &RequestTarget<'_>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, EndpointProblem> {
        let value: Value =
            serde_json::from_slice(&body).map_err(|error| EndpointProblem::Request(format!("the request body is not JSON: {error}")))?;
        let Some(model) = value["model"].as_str().map(str::to_owned) else {
            return Err(EndpointProblem::Request("the request body has no `model`".into()));
        };
        let wire = target.api.wire();
        let number = if target.length { 0 } else { self.exchanges.fetch_add(1, Ordering::Relaxed) + 1 };
        let Some(server) = self.servers.iter().find(|server| server.declared == wire && server.names.contains(&model)) else {
            let served: Vec<&str> = self.servers.iter().flat_map(|server| &server.names).map(String::as_str).collect();
            let message = format!("model: {model} (available: {})", if served.is_empty() { "none".into() } else { served.join(", ") });
            if !target.length {
                self.told(number, target, &model, &value, &body).await;
                let trouble = AttemptError { status: Some(404), ..AttemptError::new(ModelFailure::Model, message.clone()) };
                self.record_failure(number, &trouble, 0.0, Instant::now());
            }
            return Err(EndpointProblem::Model(message));
        };
        if let Some(tool) = ask::reaches_out(&value) {
            let message = format!("`{tool}` is not available: it runs on the model's server, outside the sandbox");
            if !target.length {
                self.told(number, target, &model, &value, &body).await;
                let trouble = AttemptError { status: Some(400), ..AttemptError::new(ModelFailure::Request, message.clone()) };
                self.record_failure(number, &trouble, 0.0, Instant::now());
            }
            return Err(EndpointProblem::Request(message));
        }
        if target.length {
            return self.measure(server, target, headers, body).await;
        }
        self.told(number, target, &model, &value, &body).await;
        let most = Most::of(body.len(), target.api.longest(&value), server.price(&model).as_ref());
        let waits = || self.delayed(number, "the remaining budget may not cover all concurrent requests".into(), Duration::ZERO);
        let reserved = match self.budget.reserve(most, waits).await {
            Ok(reserved) => Some(reserved),
            Err(limit) => {
                let message = format!("{limit}: no more requests are answered");
                let status = EndpointProblem::Spent(String::new()).status(wire);
                let trouble = AttemptError { status: Some(status), ..AttemptError::new(ModelFailure::Quota, message.clone()) };
                self.record_failure(number, &trouble, 0.0, Instant::now());
                self.refused.send_replace(Some(limit));
                return Err(EndpointProblem::Spent(message));
            }
        };
        let exchange = Exchange { models: Arc::clone(self), number, began: Instant::now(), reserved };
        exchange.run(server, target, headers, body, &model).await
    }

    /// Forwards a request for the length of a prompt. Such a request costs nothing and does not count as an exchange with a model.
    async fn measure(
        &self,
        server: &EndpointServer,
        target: &RequestTarget<'_>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, EndpointProblem> {
        let unknown = || EndpointProblem::Path("the cassette does not contain the length of this prompt".into());
        let source = self.lengths.as_ref().ok_or_else(unknown)?;
        // Programs can do without prompt lengths that the cassette does not contain.
        let lost = |lost: &TransportError| if matches!(lost, TransportError::Cassette(_)) { unknown() } else { server.lost(lost) };
        let incoming = server.send(source, target, headers, body).await.map_err(|error| lost(&error))?;
        let (status, headers) = (incoming.status, incoming.headers.clone());
        let bytes = server.whole(incoming.body).await.map_err(|error| lost(&error))?;
        Ok(server.response(status, &headers, Body::from(server.without_key(status, bytes))))
    }

    /// Emits events about a request of the agent and saves the request as a file.
    async fn told(&self, exchange: u32, target: &RequestTarget<'_>, model: &str, value: &Value, body: &Bytes) {
        let file = format!("models/{exchange}.json");
        let kept = keep(&self.run_dir.join(&file), body).await;
        if let Err(error) = &kept {
            self.emitter.warn(format!("cannot save the request to model {model}: {error}"));
        }
        let said = target.api.said(value);
        let last = said.last().map_or_else(String::new, Value::to_string);
        self.emitter.emit(EventKind::ModelAsked { exchange, entries: said.len() });
        self.emitter.emit(EventKind::RequestPassed {
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
        self.emitter.emit(EventKind::ModelDelayed { exchange, status: None, why, wait_us });
    }

    pub fn failed(&self, exchange: u32, trouble: &AttemptError, usd: f64, began: Instant) {
        // Faulty requests and requests over a limit are the agent's own fault.
        if !matches!(trouble.kind, ModelFailure::Request | ModelFailure::ContextFull | ModelFailure::Refusal) {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            let since = outage.take().map_or(began, |outage| outage.since.min(began));
            *outage = Some(Outage { since, why: trouble.message.clone() });
        }
        self.record_failure(exchange, trouble, usd, began);
    }

    pub fn record_failure(&self, exchange: u32, trouble: &AttemptError, usd: f64, began: Instant) {
        self.emitter.emit(EventKind::ModelFailed {
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
