//! Chat completions of OpenAI, vLLM, Ollama and compatible servers. The Responses API is only observed for external programs
//! ([`Responses`]).

mod answer;
mod request;
mod responses;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

pub use responses::Responses;

use super::key::ApiKey;
use super::wire::{self, Allowance, Assembly, AttemptError, Complaint, ModelWire, WireDialect};
use super::{ConversationEntry, ModelFailure, ModelReply, Spec};

/// Settings of the chat completions wire format, in which servers differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenAi {
    pub limit: LimitName,
}

/// Name of the request field that limits the length of the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitName {
    /// Field `max_completion_tokens`, for OpenAI, whose reasoning models refuse `max_tokens`.
    MaxCompletionTokens,
    /// Field `max_tokens`, for all other servers. Ollama ignores `max_completion_tokens`.
    #[default]
    MaxTokens,
}

impl LimitName {
    /// Returns the field name that the server at this base URL accepts.
    #[must_use]
    pub fn of(base_url: &str) -> Self {
        let host = reqwest::Url::parse(base_url).ok().and_then(|url| url.host_str().map(str::to_lowercase)).unwrap_or_default();
        if host == "api.openai.com" || host.ends_with(".openai.com") || host.ends_with(".openai.azure.com") {
            Self::MaxCompletionTokens
        } else {
            Self::MaxTokens
        }
    }
}

impl WireDialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn headers(&self, key: Option<&ApiKey>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(value) = key.and_then(|key| key.header("Bearer ")) {
            headers.insert(AUTHORIZATION, value);
        }
        headers
    }

    fn reply(&self, body: &str) -> Result<ModelReply, AttemptError> {
        answer::reply(body)
    }

    fn assembly(&self) -> Box<dyn Assembly> {
        Box::new(answer::ChatPieces::default())
    }

    fn trouble(&self, status: u16, body: &str) -> AttemptError {
        trouble(Some(status), Complaint::read(body))
    }

    fn request_id(&self, headers: &HeaderMap) -> Option<String> {
        wire::text(headers, "x-request-id").map(str::to_owned)
    }

    fn allowances(&self, headers: &HeaderMap, _now: Timestamp) -> Vec<Allowance> {
        let limit = |of: &str| {
            let remaining = wire::number(headers, &format!("x-ratelimit-remaining-{of}"))?;
            let reset = span(wire::text(headers, &format!("x-ratelimit-reset-{of}"))?)?;
            Some(Allowance { of: of.to_owned(), remaining, reset })
        };
        ["requests", "tokens"].into_iter().filter_map(limit).collect()
    }
}

impl ModelWire for OpenAi {
    fn body(&self, spec: &Spec, history: &[ConversationEntry], stream: bool) -> Result<Vec<u8>, String> {
        request::body(self, spec, history, stream)
    }
}

/// Parses a duration such as `6m0s`, `1.5s` or `20ms`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let (number, unit) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let (unit, after) = unit.split_at(unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len()));
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total).ok()
}

/// Converts the error description of a server into a failed attempt. `status` is `None` for an error in the middle of a stream.
fn trouble(status: Option<u16>, complaint: Complaint) -> AttemptError {
    let Complaint { message, kind: name, code, request } = complaint;
    let status = status.or_else(|| code.parse().ok().filter(|code| (400..600).contains(code)));
    let lower = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let kind = match (code.as_str(), name.as_str()) {
        ("context_length_exceeded", _) => ModelFailure::ContextFull,
        ("insufficient_quota" | "billing_hard_limit_reached", _) | (_, "insufficient_quota") => ModelFailure::Quota,
        ("invalid_api_key", _) => ModelFailure::Key,
        ("model_not_found", _) => ModelFailure::Model,
        ("content_filter" | "content_policy_violation" | "invalid_prompt" | "cyber_policy" | "bio_policy", _) => ModelFailure::Refusal,
        ("rate_limit_exceeded", _) if status.is_none() => ModelFailure::RateLimit,
        _ => match status.map_or(ModelFailure::Server, wire::kind_of_status) {
            // vLLM uses several texts, the last one if no tokens remain for an answer.
            ModelFailure::Request
                if says(&[
                    "maximum context length",
                    "context length",
                    "context window",
                    "max_tokens must be at least 1",
                    "prompt is too long",
                ]) =>
            {
                ModelFailure::ContextFull
            }
            kind => kind,
        },
    };
    let hopeless =
        matches!(kind, ModelFailure::Quota | ModelFailure::Key | ModelFailure::Model | ModelFailure::Refusal | ModelFailure::ContextFull);
    AttemptError { kind, status, message, again: !hopeless && status.is_none_or(wire::may_pass), request }
}

/// Converts a stream event with an `error` field into a failed attempt.
fn stream_trouble(event: &Value) -> AttemptError {
    trouble(None, Complaint::of(event))
}
