//! Errors of requests, in the format of the requested API.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::script::Failure;

/// Wire format of a request: the format of Anthropic or of OpenAI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeWire {
    Anthropic,
    OpenAi,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ApiProblem {
    pub status: u16,
    /// Error type such as `invalid_request_error`. `None` means that the type follows from the status.
    pub kind: Option<Box<str>>,
    pub message: String,
    pub param: Option<Box<str>>,
    pub code: Option<Box<str>>,
    /// Response body that replaces the standard error body.
    pub body: Option<Box<Value>>,
    pub headers: Vec<(String, String)>,
}

impl ApiProblem {
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, kind: None, message: message.into(), param: None, code: None, body: None, headers: Vec::new() }
    }

    /// Creates the error for an invalid request.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.into());
        self
    }

    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into().into());
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Creates the error for a problem of the script, which is not the client's fault. A retry would not help.
    #[must_use]
    pub fn of_script(reason: &str) -> Self {
        Self::new(500, format!("fake model: {reason}")).header("x-should-retry", &"false")
    }

    /// Creates the error that the script requests.
    #[must_use]
    pub fn of_failure(failure: &Failure) -> Self {
        let message = failure.message.clone().unwrap_or_else(|| usual_message(failure.status));
        let mut problem = Self::new(failure.status, message);
        problem.kind = failure.kind.as_deref().map(Into::into);
        problem.code = failure.code.as_deref().map(Into::into);
        problem.body = failure.body.clone().map(Box::new);
        if let Some(word) = &failure.retry_after {
            problem = problem.header("retry-after", &word.0);
        }
        if let Some(milliseconds) = failure.retry_after_ms {
            problem = problem.header("retry-after-ms", &milliseconds);
        }
        if let Some(retry) = failure.should_retry {
            problem = problem.header("x-should-retry", &retry);
        }
        failure.headers.iter().fold(problem, |problem, (name, value)| problem.header(name, &value.0))
    }

    /// Returns the body of the error response, as a JSON object or as a text.
    #[must_use]
    pub fn body(&self, wire: FakeWire, request: &str) -> Value {
        if let Some(body) = &self.body {
            return Value::clone(body);
        }
        match wire {
            FakeWire::Anthropic => {
                let mut error = json!({ "type": self.kind(wire), "message": self.message });
                if let Some(code) = &self.code {
                    error["details"] = json!({ "error_code": code });
                }
                json!({ "type": "error", "error": error, "request_id": request })
            }
            FakeWire::OpenAi => {
                let code = self.code.as_deref().or_else(|| usual_code(self.status));
                json!({ "error": { "message": self.message, "type": self.kind(wire), "param": self.param, "code": code } })
            }
        }
    }

    fn kind(&self, wire: FakeWire) -> &str {
        if let Some(kind) = &self.kind {
            return kind;
        }
        match (wire, self.status) {
            (FakeWire::Anthropic, 401) => "authentication_error",
            (FakeWire::Anthropic, 402) => "billing_error",
            (FakeWire::Anthropic, 403) => "permission_error",
            (FakeWire::Anthropic, 404) => "not_found_error",
            (FakeWire::Anthropic, 409) => "conflict_error",
            (FakeWire::Anthropic, 413) => "request_too_large",
            (FakeWire::Anthropic, 429) => "rate_limit_error",
            (FakeWire::Anthropic, 504) => "timeout_error",
            (FakeWire::Anthropic, 529) => "overloaded_error",
            (FakeWire::Anthropic, 500..) => "api_error",
            (FakeWire::OpenAi, 429) => "requests",
            (FakeWire::OpenAi, 500..) => "server_error",
            _ => "invalid_request_error",
        }
    }
}

fn usual_message(status: u16) -> String {
    let words = match status {
        401 => "invalid x-api-key",
        402 => "Your credit balance is too low to access the API",
        403 => "Your API key does not have permission to use the specified resource",
        408 => "Request timeout",
        413 => "Request exceeds the maximum size",
        429 => "This request would exceed your rate limit",
        500 => "Internal server error",
        529 => "Overloaded",
        _ => {
            let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            return known.unwrap_or("Something went wrong").to_owned();
        }
    };
    words.to_owned()
}

const fn usual_code(status: u16) -> Option<&'static str> {
    match status {
        401 => Some("invalid_api_key"),
        404 => Some("model_not_found"),
        429 => Some("rate_limit_exceeded"),
        _ => None,
    }
}
