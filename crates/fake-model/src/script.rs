//! Script as written in the file: the answer of each turn, and its failures.

use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScript {
    /// Required key; any key is accepted unless given.
    pub key: Option<String>,
    /// Existing models; any model is accepted unless given.
    #[serde(default)]
    pub models: Vec<String>,
    /// Size of the context window in tokens, 1000000 unless given.
    pub context: Option<u64>,
    pub rate: Option<Rate>,
    /// Named parts of the client's texts, for `when` and templates.
    #[serde(default)]
    pub capture: IndexMap<String, RawCapture>,
    pub turns: Vec<RawTurn>,
}

/// Rate limit within a window of time; further requests are refused with 429.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub requests: Option<u64>,
    /// Tokens of prompts. Tokens of answers do not count.
    pub tokens: Option<u64>,
    pub per: Span,
}

/// First group of a pattern, or the whole match if it has no group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCapture {
    #[serde(default)]
    pub from: Source,
    pub pattern: String,
}

/// Text to search.
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
pub struct RawTurn {
    /// Condition as an expression; always true unless given.
    pub when: Option<String>,
    /// Uses the turn repeatedly, not once per conversation.
    #[serde(default)]
    pub repeat: bool,
    pub thinking: Option<String>,
    pub text: Option<String>,
    #[serde(default)]
    pub calls: Vec<RawCall>,
    pub stop: Option<Stop>,
    /// Finish reason on the wire, unchanged.
    pub finish: Option<String>,
    pub refusal: Option<Refusal>,
    /// Usage; estimated unless given.
    #[serde(default)]
    pub usage: RawUsage,
    /// Delay before the answer.
    #[serde(default)]
    pub latency: Span,
    pub error: Option<Failure>,
    pub drip: Option<Drip>,
    pub cut: Option<Cut>,
    pub malformed: Option<Malformed>,
}

/// Tool call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCall {
    pub name: String,
    #[serde(default)]
    pub arguments: serde_json::Map<String, Value>,
    /// Arguments as sent on the wire, JSON or not.
    pub raw: Option<String>,
}

/// Reason why the model stopped, in Anthropic's terms.
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
    /// Input tokens, without those read from the cache or written to it.
    pub input: Option<u64>,
    /// Output tokens, thinking included.
    pub output: Option<u64>,
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
    pub thinking: Option<u64>,
}

/// Error instead of an answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub status: u16,
    /// Error type; derived from the status unless given.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// Body that replaces the wire's own error: an object is sent as JSON, text as text.
    pub body: Option<Value>,
    /// Value of the header: seconds, or a date.
    pub retry_after: Option<Word>,
    pub retry_after_ms: Option<u64>,
    pub should_retry: Option<bool>,
    #[serde(default)]
    pub headers: IndexMap<String, Word>,
    /// Number of failures before the turn is answered, 1 unless given.
    pub times: Option<u32>,
    /// Position in a stream: the error follows this many events.
    pub at: Option<usize>,
}

/// Sends the answer in small pieces.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    pub bytes: usize,
    pub every: Span,
}

/// Ends the connection before the answer is complete.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    pub at: CutAt,
    /// Ends the body normally, so that the client sees no error.
    #[serde(default)]
    pub clean: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// After this number of bytes of the body; at 0 no headers are sent either.
    Bytes(usize),
    /// Before the reason why the model stopped.
    Stop,
    /// Before the end of the answer.
    End,
}

/// Replaces one event of the stream, or the whole body, by a malformed one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Malformed {
    /// Index of the event, from 0; 2 unless given.
    pub at: Option<usize>,
    /// Text of the malformed event; half of the original unless given.
    pub text: Option<String>,
    /// Inserts the text before the event instead of replacing it.
    #[serde(default)]
    pub extra: bool,
}

/// Duration in text form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Text, or a number that is used as text.
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
