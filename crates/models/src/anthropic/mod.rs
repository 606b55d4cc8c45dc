//! Client side of Anthropic's Messages API.

mod answer;
mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::key::ApiKey;
use super::wire::{self, Allowance, Assembly, AttemptError, Complaint, ModelWire, WireDialect};
use super::{ConversationEntry, ModelFailure, ModelReply, Spec};

/// Settings of the Messages API wire format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anthropic {
    pub version: Version,
    pub cache: Caching,
    /// Values of the request header `anthropic-beta`.
    pub betas: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// API version `2023-06-01`, for older models and most compatible servers.
    June2023,
    /// API version `2026-10-21`, which accepts no temperature.
    #[default]
    October2026,
}

impl Version {
    pub const fn name(self) -> &'static str {
        match self {
            Self::June2023 => "2023-06-01",
            Self::October2026 => "2026-10-21",
        }
    }
}

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::June2023, Self::October2026]
            .into_iter()
            .find(|version| version.name() == text)
            .ok_or_else(|| format!("no version `{text}` of the Messages API: 2026-10-21 and 2023-06-01 are known"))
    }
}

/// Duration for which the server caches the conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caching {
    Off,
    #[default]
    FiveMinutes,
    OneHour,
}

/// Maximum `max_tokens` for which the official clients do not require streaming.
const LONGEST_WHOLE: u32 = 21_333;

impl WireDialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn path(&self) -> &'static str {
        "/v1/messages"
    }

    fn headers(&self, key: Option<&ApiKey>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(self.version.name()));
        // Servers refuse `x-api-key` together with `authorization`.
        if let Some(value) = key.and_then(|key| key.header("")) {
            headers.insert(HeaderName::from_static("x-api-key"), value);
        }
        if let Ok(value) = HeaderValue::from_str(&self.betas.join(","))
            && !self.betas.is_empty()
        {
            headers.insert(HeaderName::from_static("anthropic-beta"), value);
        }
        headers
    }

    fn reply(&self, body: &str) -> Result<ModelReply, AttemptError> {
        answer::reply(body)
    }

    fn assembly(&self) -> Box<dyn Assembly> {
        Box::new(answer::MessagePieces::default())
    }

    fn trouble(&self, status: u16, body: &str) -> AttemptError {
        trouble(Some(status), Complaint::read(body))
    }

    fn request_id(&self, headers: &HeaderMap) -> Option<String> {
        wire::text(headers, "request-id").map(str::to_owned)
    }

    fn allowances(&self, headers: &HeaderMap, now: Timestamp) -> Vec<Allowance> {
        let limit = |of: &str| {
            let remaining = wire::number(headers, &format!("anthropic-ratelimit-{of}-remaining"))?;
            let reset: Timestamp = wire::text(headers, &format!("anthropic-ratelimit-{of}-reset"))?.parse().ok()?;
            let reset = Duration::try_from(reset.duration_since(now)).unwrap_or_default();
            Some(Allowance { of: of.to_owned(), remaining, reset })
        };
        ["requests", "tokens", "input-tokens", "output-tokens"].into_iter().filter_map(limit).collect()
    }
}

impl ModelWire for Anthropic {
    fn body(&self, spec: &Spec, history: &[ConversationEntry], stream: bool) -> Result<Vec<u8>, String> {
        request::body(self, spec, history, stream)
    }

    fn must_stream(&self, spec: &Spec) -> bool {
        spec.max_tokens > LONGEST_WHOLE
    }
}

/// Returns the HTTP status that corresponds to the name of an error in a stream. Returns `None` for an unknown name.
fn status_of(kind: &str) -> Option<u16> {
    Some(match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}

/// Converts the error description of a server into a failed attempt. `status` is `None` for an error in the middle of a stream.
fn trouble(status: Option<u16>, complaint: Complaint) -> AttemptError {
    let Complaint { message, kind: name, code, request } = complaint;
    let status = status.or_else(|| status_of(&name));
    let lower = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let mut kind = wire::kind_of_status(status.unwrap_or(500));
    if kind == ModelFailure::Request {
        // Two more failures use the name of an invalid request.
        if says(&["prompt is too long", "exceed context limit", "context window"]) {
            kind = ModelFailure::ContextFull;
        } else if says(&["credit balance", "usage limits", "spend limit", "spending limit"]) {
            kind = ModelFailure::Quota;
        }
    }
    // Monthly spending limits look like rate limits.
    if code == "enforced_spend_limit_reached" {
        kind = ModelFailure::Quota;
    }
    let again = kind != ModelFailure::Quota && status.is_none_or(wire::may_pass);
    AttemptError { kind, status, message, again, request }
}

/// Converts an `error` event of a stream into a failed attempt.
fn stream_trouble(event: &Value) -> AttemptError {
    trouble(None, Complaint::of(event))
}
