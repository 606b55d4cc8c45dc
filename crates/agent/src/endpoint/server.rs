//! Connection to one model server. It selects the headers of requests and responses that are forwarded.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName};
use hyper::{Response, StatusCode};

use super::ask::{ModelApi, RequestTarget};
use super::problem::EndpointProblem;
use chaosrun_models::client::{AnswerSource, LONGEST, SILENCE, address};
use chaosrun_models::declared;
use chaosrun_models::declared::SHARED;
use chaosrun_models::key::{ApiKey, scrub};
use chaosrun_models::limiter::Limiter;
use chaosrun_models::openai::Responses;
use chaosrun_models::prices::ListedPrice;
use chaosrun_models::transport::{Incoming, Outgoing, TransportBody as Pieces, TransportError};
use chaosrun_models::wire::{RecordedRoute, WireDialect};
use chaosrun_scenario::model::{ServedModels, Wire};
use chaosrun_scenario::prices::price_of;

/// Version of the Messages API that is sent if the agent's request has no version header.
const VERSION: &str = "2023-06-01";
/// Route under which a cassette stores requests for prompt lengths.
const LENGTHS: RecordedRoute = RecordedRoute { wire: "anthropic", path: "/v1/messages/count_tokens" };

/// Names of headers that are not forwarded: hop-by-hop headers, headers that identify the client, and `accept-encoding`, because the runner
/// cannot read compressed responses.
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

/// Model server with the models that are served to the agent.
pub(super) struct EndpointServer {
    pub declared: Wire,
    /// Wire format of all paths except those of the Responses API.
    wire: Arc<dyn WireDialect>,
    base_url: String,
    pub names: Vec<String>,
    price: Option<chaosrun_scenario::model::Price>,
    pub key: Option<ApiKey>,
    pub limiter: Option<Arc<Limiter>>,
}

impl EndpointServer {
    /// Creates the connection to a model server. `live` is false if a cassette replaces the server.
    pub fn open(served: &ServedModels, live: bool) -> Result<Self, String> {
        // Clients send the version themselves.
        let wire = declared::wire(served.wire, &served.base_url, VERSION)?;
        address(&served.base_url, wire.path())?;
        let key = match ApiKey::read(&served.key) {
            Ok(key) => key,
            // Cassettes need no key.
            Err(_) if !live => None,
            Err(error) => return Err(error.to_string()),
        };
        Ok(Self {
            declared: served.wire,
            wire,
            base_url: served.base_url.clone(),
            names: served.names.clone(),
            price: served.price,
            limiter: live.then(|| SHARED.limiter(&served.base_url, key.as_ref())),
            key,
        })
    }

    pub fn price(&self, model: &str) -> Option<ListedPrice> {
        price_of(self.price, model)
    }

    pub fn dialect(&self, api: ModelApi) -> Arc<dyn WireDialect> {
        match api {
            ModelApi::Messages | ModelApi::Completions => Arc::clone(&self.wire),
            ModelApi::Responses => Arc::new(Responses),
        }
    }

    pub async fn send(
        &self,
        source: &AnswerSource,
        target: &RequestTarget<'_>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Incoming, TransportError> {
        let path = match self.declared {
            Wire::Anthropic => target.path,
            // OpenAI base URLs end with this prefix.
            Wire::Openai => target.path.strip_prefix("/v1").unwrap_or(target.path),
        };
        let route = if target.length { LENGTHS } else { self.dialect(target.api).route() };
        let url = address(&self.base_url, path).map_err(TransportError::Connection)?;
        let mut transport = source.transport(&SHARED, url, route, self.key.clone()).map_err(TransportError::Connection)?;
        let mut passed: HeaderMap =
            headers.iter().filter(|(name, _)| passes(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
        for (name, value) in self.wire.headers(self.key.as_ref()) {
            let Some(name) = name else { continue };
            if matches!(name.as_str(), "x-api-key" | "authorization") || !passed.contains_key(&name) {
                passed.insert(name, value);
            }
        }
        let sent = tokio::time::timeout(SILENCE, transport.send(Outgoing { headers: passed, body })).await;
        sent.unwrap_or_else(|_| Err(TransportError::Connection("the server sent nothing".into())))
    }

    pub async fn whole(&self, mut body: Pieces) -> Result<Bytes, TransportError> {
        let mut bytes = Vec::new();
        while let Some(piece) = piece(&mut body).await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > LONGEST {
                return Err(TransportError::Connection(format!("the response is larger than {} MiB", LONGEST >> 20)));
            }
        }
        Ok(bytes.into())
    }

    pub fn lost(&self, lost: &TransportError) -> EndpointProblem {
        let message = scrub(&lost.to_string(), self.key.as_ref());
        match lost {
            TransportError::Connection(_) => EndpointProblem::Server(message),
            TransportError::Cassette(_) | TransportError::Diverged(_) => EndpointProblem::Cassette(message),
        }
    }

    /// Removes the API key from the body of an error response, since servers repeat parts of a request in errors.
    pub fn without_key(&self, status: u16, bytes: Bytes) -> Bytes {
        if (200..300).contains(&status) {
            return bytes;
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Bytes::from(scrub(text, self.key.as_ref())),
            Err(_) => Bytes::new(),
        }
    }

    pub fn response(&self, status: u16, headers: &HeaderMap, body: Body) -> Response<Body> {
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

pub(super) async fn piece(body: &mut Pieces) -> Option<Result<Bytes, TransportError>> {
    match tokio::time::timeout(SILENCE, body.next()).await {
        Ok(piece) => piece,
        Err(_) => Some(Err(TransportError::Connection("the server stopped sending".into()))),
    }
}
