//! The script as it is written: what each turn answers, and what goes wrong with it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde_json::Value;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawScript {
    /// Requests without this key are refused: any is taken unless given.
    pub key: Option<String>,
    /// Models that there are: any unless given.
    #[serde(default)]
    pub models: Vec<String>,
    /// Tokens that fit into the context window: 1000000 unless given.
    pub context: Option<u64>,
    pub rate: Option<Rate>,
    /// Names for `when` and templates: parts of what the client said.
    #[serde(default)]
    pub capture: IndexMap<String, RawCapture>,
    pub turns: Vec<RawTurn>,
}

/// What may be asked for within a window of time; more is refused with 429.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub requests: Option<u64>,
    /// Of prompts and answers together.
    pub tokens: Option<u64>,
    pub per: Span,
}

/// The first group of a pattern, or the whole match where it has none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCapture {
    #[serde(default)]
    pub from: Source,
    pub pattern: String,
}

/// Where to look for it.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    #[default]
    First,
    Last,
    System,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTurn {
    /// An expression; always unless given.
    pub when: Option<String>,
    /// Used again and again, not once in a conversation.
    #[serde(default)]
    pub repeat: bool,
    pub thinking: Option<String>,
    pub text: Option<String>,
    #[serde(default)]
    pub calls: Vec<RawCall>,
    pub stop: Option<Stop>,
    /// The reason as it goes over the wire, whatever it is.
    pub finish: Option<String>,
    pub refusal: Option<Refusal>,
    /// Estimated where nothing is given.
    #[serde(default)]
    pub usage: RawUsage,
    /// Before anything is answered.
    #[serde(default)]
    pub latency: Span,
    pub error: Option<Failure>,
    pub drip: Option<Drip>,
    pub cut: Option<Cut>,
    pub malformed: Option<Malformed>,
}

/// A call of a tool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCall {
    pub name: String,
    #[serde(default)]
    pub arguments: serde_json::Map<String, Value>,
    /// The arguments as they go over the wire, JSON or not.
    pub raw: Option<String>,
}

/// Why the model stopped, in Anthropic's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
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

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub category: Option<String>,
    pub explanation: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUsage {
    /// Without what was read from the cache or written to it.
    pub input: Option<u64>,
    /// Thinking included.
    pub output: Option<u64>,
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
    pub thinking: Option<u64>,
}

/// An error instead of an answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub status: u16,
    /// What the status usually comes with, unless given.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// In place of the wire's own error: an object is JSON, text is text.
    pub body: Option<Value>,
    /// The header as it is: seconds, or a date.
    pub retry_after: Option<Word>,
    pub retry_after_ms: Option<u64>,
    pub should_retry: Option<bool>,
    #[serde(default)]
    pub headers: IndexMap<String, Word>,
    /// How often, before the turn goes on with its answer: once unless given.
    pub times: Option<u32>,
    /// Within a stream, after so many events.
    pub at: Option<usize>,
}

/// The answer in small pieces.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    pub bytes: usize,
    pub every: Span,
}

/// The connection ends before the answer does.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    pub at: CutAt,
    /// As if that were all: the body has an end, and no error is seen.
    #[serde(default)]
    pub clean: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// After so many of the body; at 0 there are no headers either.
    Bytes(usize),
    /// Before the reason why the model stopped.
    Stop,
    /// Before what says that this was all.
    End,
}

/// One event of the stream, or the whole body, that is not what it should be.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Malformed {
    /// Which event, from 0: 2 unless given.
    pub at: Option<usize>,
    /// What stands there: half of the event, unless given.
    pub text: Option<String>,
    /// In front of the event, which comes all the same.
    #[serde(default)]
    pub extra: bool,
}

/// A duration as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Text, or a number that is meant as text.
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

macro_rules! schema_of {
    ($name:ident, $schema:tt) => {
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

schema_of!(Span, { "type": "string" });
schema_of!(Word, { "type": ["string", "number"] });
schema_of!(CutAt, { "type": ["string", "integer"] });
