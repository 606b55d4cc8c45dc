//! One server of models: what reaches it of a request, and what of its answer reaches whoever asked.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName};
use hyper::{Response, StatusCode};

use super::ask::{Api, Target};
use super::problem::Problem;
use crate::agent::model::client::{LONGEST, SILENCE, Source, address};
use crate::agent::model::declared::{self, SHARED, price_of};
use crate::agent::model::key::{Key, scrub};
use crate::agent::model::limiter::Limiter;
use crate::agent::model::openai::Responses;
use crate::agent::model::prices::Price;
use crate::agent::model::transport::{Body as Pieces, Incoming, Lost, Outgoing};
use crate::agent::model::wire::{Dialect, Route};
use crate::scenario::model::{ServedModels, Wire};

/// Of the Messages API, for a request that names none.
const VERSION: &str = "2023-06-01";
/// How long prompts are, in a record.
const LENGTHS: Route = Route { wire: "anthropic", path: "/v1/messages/count_tokens" };

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

/// One server and what of it is served.
pub(super) struct Server {
    pub declared: Wire,
    /// Of all that it serves but the Responses API.
    wire: Arc<dyn Dialect>,
    base_url: String,
    pub names: Vec<String>,
    price: Option<crate::scenario::model::Price>,
    pub key: Option<Key>,
    pub limiter: Option<Arc<Limiter>>,
}

impl Server {
    /// `live`: it is asked indeed, and not a record of it.
    pub fn open(served: &ServedModels, live: bool) -> Result<Self, String> {
        // Whoever asks says the version itself.
        let wire = declared::wire(served.wire, &served.base_url, VERSION)?;
        address(&served.base_url, wire.path())?;
        let key = match served.key.read() {
            Ok(key) => key,
            // A record needs none.
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

    pub fn price(&self, model: &str) -> Option<Price> {
        price_of(self.price, model)
    }

    pub fn dialect(&self, api: Api) -> Arc<dyn Dialect> {
        match api {
            Api::Messages | Api::Completions => Arc::clone(&self.wire),
            Api::Responses => Arc::new(Responses),
        }
    }

    pub async fn send(&self, source: &Source, target: &Target<'_>, headers: &HeaderMap, body: Bytes) -> Result<Incoming, Lost> {
        let path = match self.declared {
            Wire::Anthropic => target.path,
            // Their base URLs end with it.
            Wire::Openai => target.path.strip_prefix("/v1").unwrap_or(target.path),
        };
        let route = if target.length { LENGTHS } else { self.dialect(target.api).route() };
        let url = address(&self.base_url, path).map_err(Lost::Connection)?;
        let mut transport = source.transport(&SHARED, url, route, self.key.clone()).map_err(Lost::Connection)?;
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

    pub async fn whole(&self, mut body: Pieces) -> Result<Bytes, Lost> {
        let mut bytes = Vec::new();
        while let Some(piece) = piece(&mut body).await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > LONGEST {
                return Err(Lost::Connection(format!("the answer is longer than {} MiB", LONGEST >> 20)));
            }
        }
        Ok(bytes.into())
    }

    pub fn lost(&self, lost: &Lost) -> Problem {
        let message = scrub(&lost.to_string(), self.key.as_ref());
        match lost {
            Lost::Connection(_) => Problem::Server(message),
            Lost::Cassette(_) | Lost::Diverged(_) => Problem::Cassette(message),
        }
    }

    /// Servers repeat in what they say of an error a part of what they were given.
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

pub(super) async fn piece(body: &mut Pieces) -> Option<Result<Bytes, Lost>> {
    match tokio::time::timeout(SILENCE, body.next()).await {
        Ok(piece) => piece,
        Err(_) => Some(Err(Lost::Connection("the server says nothing more".into()))),
    }
}
