//! Error responses that an endpoint sends instead of a model's answer, in the wire format of the model.

use axum::body::Body;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use chaosrun_scenario::model::Wire;

/// Reason why a request is not forwarded to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndpointProblem {
    /// The requested path does not exist.
    Path(String),
    /// The request is not a valid model request.
    Request(String),
    /// The requested model is not served to the agent.
    Model(String),
    /// The spending limit is reached.
    Spent(String),
    /// The model server did not answer.
    Server(String),
    /// The cassette has no answer to the request.
    Cassette(String),
}

impl EndpointProblem {
    pub fn status(&self, wire: Wire) -> u16 {
        match (self, wire) {
            (Self::Path(_) | Self::Model(_), _) => 404,
            (Self::Request(_), _) => 400,
            // Status codes with which these wires report an empty account.
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
        // Official clients would otherwise retry most of these errors.
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
