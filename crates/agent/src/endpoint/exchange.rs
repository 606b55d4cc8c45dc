//! Exchange between an external agent and a model: the bytes are forwarded unchanged, counted and recorded.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

use super::ask::RequestTarget;
use super::budget::Reserved;
use super::models::Models;
use super::problem::EndpointProblem;
use super::server::EndpointServer;
use super::tap::Tap;
use chaosrun_event::{EventKind, ToolCall, Usage};
use chaosrun_models::client::server_time;
use chaosrun_models::key::scrub;
use chaosrun_models::limiter::Permit;
use chaosrun_models::retry::Advice;
use chaosrun_models::tally::Count;
use chaosrun_models::transport::{Incoming, TransportError};
use chaosrun_models::wire::AttemptError;
use chaosrun_models::{MessagePart, ModelFailure, ModelReply};

/// Exchange with a model that is in progress.
pub(super) struct Exchange {
    pub models: Arc<Models>,
    pub number: u32,
    pub began: Instant,
    /// Budget reserved for this exchange. The reservation is released at the end of the exchange.
    pub reserved: Option<Reserved>,
}

impl Exchange {
    pub async fn run(
        self,
        server: &EndpointServer,
        target: &RequestTarget<'_>,
        headers: &HeaderMap,
        body: Bytes,
        model: &str,
    ) -> Result<Response<Body>, EndpointProblem> {
        let models = Arc::clone(&self.models);
        let waits = |why: String, wait: Duration| models.delayed(self.number, why, wait);
        let permit = match &server.limiter {
            Some(limiter) => Some(limiter.admit(waits).await),
            None => None,
        };
        let dialect = server.dialect(target.api);
        let mut count = Count::begin(Arc::clone(&models.meter), server.price(model), body.len());
        let incoming = match server.send(&models.source, target, headers, body).await {
            Ok(incoming) => incoming,
            Err(lost) => return Err(self.lost(server, &lost, &count)),
        };
        let Incoming { status, headers, body, diverged } = incoming;
        if let Some(divergence) = diverged {
            models.emitter.emit(divergence.event(false));
        }
        let now = server_time(&headers);
        if let Some(permit) = &permit {
            permit.heard(&dialect.allowances(&headers, now));
        }
        let request = dialect.request_id(&headers);
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if (200..300).contains(&status) && kind.contains("event-stream") {
            let tap = Tap::new(self, body, permit, count, dialect.assembly(), request);
            let pieces = stream::unfold(tap, |mut tap| async move { tap.next().await.map(|piece| (piece, tap)) });
            return Ok(server.response(status, &headers, Body::from_stream(pieces)));
        }
        let bytes = match server.whole(body).await {
            Ok(bytes) => bytes,
            Err(lost) => return Err(self.lost(server, &lost, &count)),
        };
        if (200..300).contains(&status) {
            let text = String::from_utf8_lossy(&bytes);
            match dialect.reply(&text) {
                Ok(mut reply) => {
                    count.see_whole(reply.usage, text.len());
                    reply.usage = count.end(reply.usage);
                    reply.request = reply.request.or(request);
                    self.answered(&reply, count.usd(), permit.as_ref());
                }
                Err(trouble) => {
                    count.see_whole(Usage::default(), text.len());
                    self.failed(&trouble.with_request(request), count.usd());
                }
            }
            return Ok(server.response(status, &headers, Body::from(bytes)));
        }
        let bytes = server.without_key(status, bytes);
        let trouble = dialect.trouble(status, &String::from_utf8_lossy(&bytes)).with_request(request);
        if let Some(permit) = permit.filter(|_| matches!(trouble.kind, ModelFailure::RateLimit | ModelFailure::Overloaded)) {
            permit.refused(Advice::of(&headers, now).after);
        }
        self.failed(&trouble, count.usd());
        Ok(server.response(status, &headers, Body::from(bytes)))
    }

    fn lost(&self, server: &EndpointServer, lost: &TransportError, count: &Count) -> EndpointProblem {
        if let TransportError::Diverged(divergence) = lost {
            self.models.emitter.emit(divergence.as_ref().clone().event(true));
        }
        self.models.cassette_failed.fetch_or(!matches!(lost, TransportError::Connection(_)), Ordering::Relaxed);
        let kind = if matches!(lost, TransportError::Connection(_)) { ModelFailure::Connection } else { ModelFailure::Cassette };
        let trouble = AttemptError::new(kind, scrub(&lost.to_string(), server.key.as_ref()));
        self.failed(&trouble, count.usd());
        server.lost(lost)
    }

    pub fn failed(&self, trouble: &AttemptError, usd: f64) {
        self.models.failed(self.number, trouble, usd, self.began);
    }

    pub fn answered(&self, reply: &ModelReply, usd: f64, permit: Option<&Permit>) {
        if let Some(permit) = permit {
            permit.succeeded();
        }
        if let Some(outage) = self.models.outage.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.models.meter.loses(self.began.saturating_duration_since(outage.since), &outage.why);
        }
        let text = |wanted: fn(&MessagePart) -> Option<&str>| reply.parts.iter().filter_map(wanted).collect::<Vec<_>>().join("\n");
        let calls = reply.parts.iter().filter_map(|part| match part {
            MessagePart::Call(call) => Some(ToolCall {
                id: call.id.clone(),
                tool: call.tool.clone(),
                arguments: call.arguments.as_ref().map_or_else(|bad| Value::from(bad.text.as_str()), |map| Value::Object(map.clone())),
            }),
            _ => None,
        });
        self.models.emitter.emit(EventKind::ModelAnswered {
            exchange: self.number,
            model: reply.model.clone(),
            request: reply.request.clone(),
            thinking: text(|part| if let MessagePart::Thinking(text) = part { Some(text) } else { None }),
            text: text(|part| if let MessagePart::Text(text) = part { Some(text) } else { None }),
            calls: calls.collect(),
            stop: reply.stop.word().into(),
            usage: reply.usage,
            usd,
            took_us: micros(self.began),
        });
    }
}

pub(super) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
