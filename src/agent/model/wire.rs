//! A wire: how a request to a model is written and an answer read. No IO, no clock, no key is kept.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::key::Key;
use super::sse::Event;
use super::{Entry, Failure, Reply, Spec, Usage};

/// What passes between a client and a server of a wire, as far as whoever only looks on must understand it.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// `anthropic`, `openai`: in cassettes.
    fn name(&self) -> &'static str;

    /// Below the base URL.
    fn path(&self) -> &'static str;

    fn route(&self) -> Route {
        Route { wire: self.name(), path: self.path() }
    }

    fn headers(&self, key: Option<&Key>) -> HeaderMap;

    /// Reads a whole answer.
    ///
    /// # Errors
    /// When it is none.
    fn reply(&self, body: &str) -> Result<Reply, Trouble>;

    /// Reads an answer that comes in pieces.
    fn assembly(&self) -> Box<dyn Assembly>;

    /// What an answer with a bad status means.
    fn trouble(&self, status: u16, body: &str) -> Trouble;

    /// The server's name of the exchange.
    fn request_id(&self, headers: &HeaderMap) -> Option<String>;

    /// What the server says is left of the limits of the key. `now` is the server's own time where it tells it.
    fn allowances(&self, headers: &HeaderMap, now: Timestamp) -> Vec<Allowance>;
}

/// A dialect that we ask in ourselves.
pub trait Wire: Dialect {
    /// The same bytes for the same conversation, and what was written once is written so again when the conversation goes on.
    ///
    /// # Errors
    /// When the wire has no words for what the spec says, with what to do about it.
    fn body(&self, spec: &Spec, history: &[Entry], stream: bool) -> Result<Vec<u8>, String>;

    /// Whether an answer may take so long that it has to be streamed.
    fn must_stream(&self, _spec: &Spec) -> bool {
        false
    }
}

/// What a request is, in a record of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub wire: &'static str,
    /// Below the base URL.
    pub path: &'static str,
}

/// An answer that comes in pieces.
pub trait Assembly: Send {
    /// Takes the next event.
    ///
    /// # Errors
    /// When it says that the answer fails, or cannot be read.
    fn take(&mut self, event: &Event) -> Result<(), Trouble>;

    /// Whether the answer is whole.
    fn ended(&self) -> bool;

    fn tally(&self) -> Tally;

    /// # Errors
    /// When the end of the answer was not seen.
    fn finish(self: Box<Self>) -> Result<Reply, Trouble>;
}

/// How much of an answer has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// As the server has counted so far.
    pub usage: Usage,
    /// Bytes of text, thinking and arguments that have come.
    pub said: u64,
    /// Whether the server's count is of the whole answer.
    pub counted: bool,
}

/// A failure, before it is decided whether to try again.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    pub kind: Failure,
    pub status: Option<u16>,
    pub message: String,
    /// Whether the same request may fare better.
    pub again: bool,
    pub request: Option<String>,
}

impl Trouble {
    pub fn new(kind: Failure, message: impl Into<String>) -> Self {
        Self { kind, status: None, message: message.into(), again: false, request: None }
    }

    /// The connection ended or spoiled an answer: another try may do better.
    pub fn broken(message: impl Into<String>) -> Self {
        Self { again: true, ..Self::new(Failure::Malformed, message) }
    }

    /// The server was understood, and what it said is no answer.
    pub fn senseless(message: impl Into<String>) -> Self {
        Self::new(Failure::Malformed, message)
    }

    #[must_use]
    pub fn with_request(mut self, request: Option<String>) -> Self {
        self.request = self.request.or(request);
        self
    }
}

/// What is left of a limit of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// `requests`, `input-tokens`: as the header says.
    pub of: String,
    pub remaining: u64,
    /// Until it is whole again.
    pub reset: Duration,
}

/// What a server says about an error, whatever form it has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    /// `rate_limit_error`, `invalid_request_error`.
    pub(super) kind: String,
    /// A word, or a number in digits.
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
            // vLLM once said it at the top.
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

/// The beginning of a text that was not understood.
pub(in crate::agent) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "(an empty body)".into();
    }
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The failure that a status means by itself.
pub(super) fn kind_of_status(status: u16) -> Failure {
    match status {
        401 => Failure::Key,
        402 => Failure::Quota,
        403 | 404 => Failure::Model,
        413 => Failure::ContextFull,
        429 => Failure::RateLimit,
        503 | 529 => Failure::Overloaded,
        408 | 409 | 500.. => Failure::Server,
        _ => Failure::Request,
    }
}

/// Whether the official clients try again after that status.
pub(super) const fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500..)
}

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads the arguments of a call: a JSON object, or nothing at all.
pub(super) fn arguments(text: &str) -> Result<serde_json::Map<String, Value>, super::BadArguments> {
    if text.trim().is_empty() {
        return Ok(serde_json::Map::new());
    }
    let bad = |why: String| super::BadArguments { text: text.to_owned(), why };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(other) => Err(bad(format!("the arguments of a tool are a JSON object, not {}", sort(&other)))),
        Err(error) => Err(bad(format!("the arguments are not JSON: {error}"))),
    }
}

pub(super) const fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
