//! What is said in a model's place, in the words of its wire.

use axum::body::Body;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use crate::scenario::model::Wire;

/// Why a request is not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// There is nothing at that path.
    Path(String),
    /// It is no request to a model.
    Request(String),
    /// That model is not served.
    Model(String),
    /// What may be spent is spent.
    Spent(String),
    /// The server did not answer.
    Server(String),
    /// A record has no answer to it.
    Cassette(String),
}

impl Problem {
    pub fn status(&self, wire: Wire) -> u16 {
        match (self, wire) {
            (Self::Path(_) | Self::Model(_), _) => 404,
            (Self::Request(_), _) => 400,
            // As these wires say that an account is empty.
            (Self::Spent(_), Wire::Anthropic) => 403,
            (Self::Spent(_), Wire::Openai) => 429,
            (Self::Server(_), _) => 502,
            (Self::Cassette(_), _) => 500,
        }
    }

    fn body(&self, wire: Wire) -> Value {
        let (Self::Path(message)
        | Self::Request(message)
        | Self::Model(message)
        | Self::Spent(message)
        | Self::Server(message)
        | Self::Cassette(message)) = self;
        match wire {
            Wire::Anthropic => {
                let kind = match self {
                    Self::Path(_) | Self::Model(_) => "not_found_error",
                    Self::Request(_) => "invalid_request_error",
                    Self::Spent(_) => "permission_error",
                    Self::Server(_) | Self::Cassette(_) => "api_error",
                };
                json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": null })
            }
            Wire::Openai => {
                let (kind, code) = match self {
                    Self::Path(_) => ("invalid_request_error", Some("unknown_url")),
                    Self::Request(_) => ("invalid_request_error", None),
                    Self::Model(_) => ("invalid_request_error", Some("model_not_found")),
                    Self::Spent(_) => ("insufficient_quota", Some("insufficient_quota")),
                    Self::Server(_) | Self::Cassette(_) => ("server_error", None),
                };
                json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
            }
        }
    }

    pub fn response(&self, wire: Wire) -> Response<Body> {
        let mut response = json(self.status(wire), &self.body(wire));
        // The official clients would try most of these again.
        let again = if matches!(self, Self::Server(_)) { "true" } else { "false" };
        response.headers_mut().insert("x-should-retry", HeaderValue::from_static(again));
        response
    }
}

pub(super) fn json(status: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
