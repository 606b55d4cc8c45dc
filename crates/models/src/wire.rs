//! Wire formats of model APIs. They write requests and parse responses. They perform no IO, read no clock and store no keys.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::key::ApiKey;
use super::sse::SseEvent;
use super::{ConversationEntry, ModelFailure, ModelReply, Spec, Usage};

/// Wire format of a model API, limited to the functions that a proxy needs to interpret the exchanges of other clients.
pub trait WireDialect: fmt::Debug + Send + Sync {
    /// Returns the name of the wire format in cassettes: `anthropic` or `openai`.
    fn name(&self) -> &'static str;

    /// Returns the path of requests relative to the base URL.
    fn path(&self) -> &'static str;

    fn route(&self) -> RecordedRoute {
        RecordedRoute { wire: self.name(), path: self.path() }
    }

    fn headers(&self, key: Option<&ApiKey>) -> HeaderMap;

    /// Parses a whole response.
    ///
    /// # Errors
    /// The response is invalid.
    fn reply(&self, body: &str) -> Result<ModelReply, AttemptError>;

    /// Creates the parser of a streamed response.
    fn assembly(&self) -> Box<dyn Assembly>;

    /// Converts an error response into the failure of an attempt.
    fn trouble(&self, status: u16, body: &str) -> AttemptError;

    /// Returns the id that the server gave to the request, from the response headers.
    fn request_id(&self, headers: &HeaderMap) -> Option<String>;

    /// Returns the remaining rate limits from the response headers. `now` is the server's time where known.
    fn allowances(&self, headers: &HeaderMap, now: Timestamp) -> Vec<Allowance>;
}

/// Wire format in which chaosrun's own client also sends requests.
pub trait ModelWire: WireDialect {
    /// Returns the request body. The same conversation gives the same bytes. A longer conversation keeps the bytes of its earlier part.
    ///
    /// # Errors
    /// The wire format cannot express a setting of the spec. The error says how to fix the setting.
    fn body(&self, spec: &Spec, history: &[ConversationEntry], stream: bool) -> Result<Vec<u8>, String>;

    /// Returns true if an answer may take so long that the response has to be streamed.
    fn must_stream(&self, _spec: &Spec) -> bool {
        false
    }
}

/// Identification of a kind of request in a cassette, by wire format and path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedRoute {
    pub wire: &'static str,
    /// Path of the request relative to the base URL.
    pub path: &'static str,
}

/// Parser that assembles a streamed response from its events.
pub trait Assembly: Send {
    /// Adds the next event of the stream to the response.
    ///
    /// # Errors
    /// The event reports a failure or cannot be parsed.
    fn take(&mut self, event: &SseEvent) -> Result<(), AttemptError>;

    /// Returns true if the last event of the response has arrived.
    fn ended(&self) -> bool;

    fn tally(&self) -> AnswerProgress;

    /// Returns the complete response.
    ///
    /// # Errors
    /// The end of the response is missing.
    fn finish(self: Box<Self>) -> Result<ModelReply, AttemptError>;
}

/// Progress of a response that is still arriving.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerProgress {
    /// Token counts that the server has reported so far.
    pub usage: Usage,
    /// Number of bytes of text, thinking and call arguments received so far.
    pub said: u64,
    /// True if the token counts in `usage` cover the whole response.
    pub counted: bool,
}

/// Failure of one attempt of an exchange, before a retry is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptError {
    pub kind: ModelFailure,
    pub status: Option<u16>,
    pub message: String,
    /// True if a retry of the same request may succeed.
    pub again: bool,
    pub request: Option<String>,
}

impl AttemptError {
    pub fn new(kind: ModelFailure, message: impl Into<String>) -> Self {
        Self { kind, status: None, message: message.into(), again: false, request: None }
    }

    /// Creates the failure of a connection or response that was cut off. A retry may succeed.
    pub fn broken(message: impl Into<String>) -> Self {
        Self { again: true, ..Self::new(ModelFailure::Malformed, message) }
    }

    /// Creates the failure of a response that was parsed but is no valid answer.
    pub fn unexpected_reply(message: impl Into<String>) -> Self {
        Self::new(ModelFailure::Malformed, message)
    }

    #[must_use]
    pub fn with_request(mut self, request: Option<String>) -> Self {
        self.request = self.request.or(request);
        self
    }
}

/// Remaining allowance of one of the server's rate limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// Name of the rate limit in the response header: `requests`, `input-tokens`.
    pub of: String,
    pub remaining: u64,
    /// Time until the full allowance is available again.
    pub reset: Duration,
}

/// Description of an error in a server's response, in any of the known formats.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    /// Type of the error: `rate_limit_error`, `invalid_request_error`.
    pub(super) kind: String,
    /// Code of the error, which is a word or a number.
    pub(super) code: String,
    pub(super) request: Option<String>,
}

impl Complaint {
    pub(super) fn read(body: &str) -> Self {
        match serde_json::from_str::<Value>(body) {
            Ok(value) => Self::of(&value),
            Err(_) => Self { message: excerpt(body), ..Self::default() },
        }
    }

    pub(super) fn of(body: &Value) -> Self {
        let word = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let request = body["request_id"].as_str().map(str::to_owned);
        let error = match &body["error"] {
            Value::String(text) => return Self { message: text.clone(), request, ..Self::default() },
            // Older versions of vLLM put the error at the top level.
            Value::Null => body,
            error => error,
        };
        let detail = word(&error["details"]["error_code"]);
        let message = match error["message"].as_str() {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => excerpt(&body.to_string()),
        };
        Self { message, kind: word(&error["type"]), code: if detail.is_empty() { word(&error["code"]) } else { detail }, request }
    }
}

/// Returns the first characters of a text that could not be parsed, for an error message.
pub fn excerpt(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "(empty body)".into();
    }
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Returns the kind of failure that an HTTP status alone indicates.
pub(super) fn kind_of_status(status: u16) -> ModelFailure {
    match status {
        401 => ModelFailure::Key,
        402 => ModelFailure::Quota,
        403 | 404 => ModelFailure::Model,
        413 => ModelFailure::ContextFull,
        429 => ModelFailure::RateLimit,
        503 | 529 => ModelFailure::Overloaded,
        408 | 409 | 500.. => ModelFailure::Server,
        _ => ModelFailure::Request,
    }
}

/// Returns true if the official clients retry a request after this HTTP status.
pub(super) const fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500..)
}

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Parses the arguments of a tool call, which are a JSON object or an empty text.
pub(super) fn arguments(text: &str) -> Result<serde_json::Map<String, Value>, super::BadArguments> {
    if text.trim().is_empty() {
        return Ok(serde_json::Map::new());
    }
    let bad = |why: String| super::BadArguments { text: text.to_owned(), why };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(other) => Err(bad(format!("the arguments of a tool must be a JSON object, found {}", json_type_name(&other)))),
        Err(error) => Err(bad(format!("the arguments are not JSON: {error}"))),
    }
}

pub(super) const fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
