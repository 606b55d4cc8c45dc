//! Script of the fake model as written in the file: the answers and the failures of all turns.

use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawScript {
    /// API key that requests must contain. `None` accepts any key.
    pub key: Option<String>,
    /// Names of the models that exist. An empty list accepts any model.
    #[serde(default)]
    pub models: Vec<String>,
    /// Size of the context window in tokens; 1000000 if not given.
    pub context: Option<u64>,
    pub rate: Option<Rate>,
    /// Parts to extract from the client's texts, by name. Conditions and templates can use the names.
    #[serde(default)]
    pub capture: IndexMap<String, RawCapture>,
    pub turns: Vec<RawTurn>,
}

/// Limit of requests and tokens within a window of time. The server refuses further requests with status 429.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub requests: Option<u64>,
    /// Largest number of prompt tokens in the window. Tokens of answers do not count.
    pub tokens: Option<u64>,
    pub per: Span,
}

/// Pattern that extracts a part of a text: the first group of the pattern, or the whole match if the pattern has no group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCapture {
    #[serde(default)]
    pub from: Source,
    pub pattern: String,
}

/// Text in which a capture searches.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    #[default]
    First,
    Last,
    System,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTurn {
    /// Condition under which the turn answers, as an expression. Always true if not given.
    pub when: Option<String>,
    /// True if the turn may answer repeatedly, false if only once per conversation.
    #[serde(default)]
    pub repeat: bool,
    pub thinking: Option<String>,
    pub text: Option<String>,
    #[serde(default)]
    pub calls: Vec<RawCall>,
    pub stop: Option<Stop>,
    /// Finish reason that is sent unchanged.
    pub finish: Option<String>,
    pub refusal: Option<Refusal>,
    /// Token usage of the answer; missing counts are estimated.
    #[serde(default)]
    pub usage: RawUsage,
    /// Delay before the answer is sent.
    #[serde(default)]
    pub latency: Span,
    pub error: Option<Failure>,
    pub drip: Option<Drip>,
    pub cut: Option<Cut>,
    pub malformed: Option<Malformed>,
}

/// Tool call in an answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCall {
    pub name: String,
    #[serde(default)]
    pub arguments: serde_json::Map<String, Value>,
    /// Arguments as a text that is sent unchanged. The text need not be valid JSON.
    pub raw: Option<String>,
}

/// Reason why the model stopped, in the terms of Anthropic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    EndTurn,
    ToolUse,
    MaxTokens,
    StopSequence,
    PauseTurn,
    Refusal,
    ModelContextWindowExceeded,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub category: Option<String>,
    pub explanation: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUsage {
    /// Number of input tokens, without tokens that were read from the cache or written to the cache.
    pub input: Option<u64>,
    /// Number of output tokens, including thinking.
    pub output: Option<u64>,
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
    pub thinking: Option<u64>,
}

/// Error that the server sends instead of an answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub status: u16,
    /// Error type; follows from the status if not given.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// Response body that replaces the standard error body. An object is sent as JSON, a text as plain text.
    pub body: Option<Value>,
    /// Value of the response header `retry-after`: seconds, or a date.
    pub retry_after: Option<Word>,
    pub retry_after_ms: Option<u64>,
    pub should_retry: Option<bool>,
    #[serde(default)]
    pub headers: IndexMap<String, Word>,
    /// Number of failures before the turn answers; 1 if not given.
    pub times: Option<u32>,
    /// Number of stream events that are sent before the error. If not given, the error replaces the whole answer.
    pub at: Option<usize>,
}

/// Option to send the answer in small pieces.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    pub bytes: usize,
    pub every: Span,
}

/// Option to end the connection before the answer is complete.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    pub at: CutAt,
    /// True if the body ends without a connection error, so that the client detects no error.
    #[serde(default)]
    pub clean: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// Cuts the body after this number of bytes. At 0 no headers are sent either.
    Bytes(usize),
    /// Cuts the answer before the reason why the model stopped.
    Stop,
    /// Cuts the answer before its end.
    End,
}

/// Option to replace one stream event, or the whole body, by a malformed text.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Malformed {
    /// Index of the stream event, counted from 0; 2 if not given.
    pub at: Option<usize>,
    /// Malformed text; if not given, half of the original event.
    pub text: Option<String>,
    /// True if the text is inserted before the event instead of replacing the event.
    #[serde(default)]
    pub extra: bool,
}

/// Duration, written as a text in the script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Text value of a script. A number is accepted too and becomes a text.
#[derive(Debug, Clone)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as `500ms`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                humantime::parse_duration(text).map(Span).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for CutAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;
        impl Visitor<'_> for Place {
            type Value = CutAt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, `stop` or `end`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CutAt, E> {
                match text {
                    "stop" => Ok(CutAt::Stop),
                    "end" => Ok(CutAt::End),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<CutAt, E> {
                usize::try_from(number).map(CutAt::Bytes).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_any(Place)
    }
}
