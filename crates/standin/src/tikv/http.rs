//! HTTP client of a store for requests to other stores and PD. Connections are kept alive.

use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

/// Largest accepted answer in bytes.
const ANSWER_LIMIT: usize = 8 << 20;

/// Reason why an HTTP request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request certainly did not arrive.
    #[error("{0}")]
    NotSent(String),
    /// The request may have arrived.
    #[error("{0}")]
    NoAnswer(String),
}

/// Complete HTTP answer: status and body.
#[derive(Debug, Clone)]
pub struct StatusResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Clone)]
pub struct StatusClient(legacy::Client<HttpConnector, Full<Bytes>>);

impl Default for StatusClient {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(legacy::Client::builder(TokioExecutor::new()).build(connector))
    }
}

impl StatusClient {
    /// Sends one request to `http://{address}{path}`, and waits at most `limit` for the complete answer.
    ///
    /// # Errors
    /// Returns an error if no answer arrives. The variant of the error says whether the request may have had an effect.
    pub async fn call(
        &self,
        method: Method,
        (address, path): (&str, &str),
        headers: &[(&'static str, &str)],
        body: Bytes,
        limit: Duration,
    ) -> Result<StatusResponse, CallError> {
        let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|error| CallError::NotSent(error.to_string()))?;
        let exchange = async {
            let answer = self.0.request(request).await.map_err(|error| {
                let text = causes(&error);
                if error.is_connect() { CallError::NotSent(text) } else { CallError::NoAnswer(text) }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| CallError::NoAnswer(error.to_string()))?;
            Ok(StatusResponse { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(CallError::NoAnswer(format!("no answer within {} ms", limit.as_millis()))))
    }

    /// Sends JSON in a POST request, and returns the body of the answer.
    ///
    /// # Errors
    /// Returns an error if no answer arrives, or if the status is not 200.
    pub async fn post_json(&self, address: &str, path: &str, body: Vec<u8>, limit: Duration) -> Result<Bytes, CallError> {
        let json = [(header::CONTENT_TYPE.as_str(), "application/json")];
        let answer = self.call(Method::POST, (address, path), &json, body.into(), limit).await?;
        if answer.status == StatusCode::OK {
            Ok(answer.body)
        } else {
            Err(CallError::NoAnswer(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body))))
        }
    }
}

/// Formats an error and its causes in one line, since the text of hyper's errors alone is not specific.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
