//! Cassettes: recordings of all exchanges between agents and their models, and their replay.
//!
//! A cassette consists of JSON lines: a header that identifies the file and its trial, then one line per exchange, including
//! failed attempts. No line contains a key. Replay answers the n-th request of a session with its n-th exchange.

mod compare;
mod record;
mod replay;
mod tape;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use record::CassetteRecorder;
pub use replay::{Cassette, SessionReplay};
pub use tape::{AGENT, LENGTHS, SERVED, SUMMARY, Tape, ToRecord};

use chaosrun_scenario::cassette::{CassetteHead, FORMAT, head};
pub use chaosrun_scenario::cassette::{CassetteOrigin, is_one, shelf};
pub use chaosrun_scenario::model::Matching as Mode;

/// Recorded request to a model with its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Exchange {
    /// Name of the session. A cassette has one session per model client.
    session: String,
    /// Number of the exchange in its session, from 1.
    seq: u32,
    wire: String,
    path: String,
    /// Hash of the request in canonical form.
    hash: String,
    request: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
    end: End,
    /// Start of the exchange, in milliseconds since the start of the cassette.
    at_ms: u64,
    /// Milliseconds from the start of the exchange until the response headers arrived.
    head_ms: u64,
    /// Milliseconds from the start of the exchange until the end of the response.
    ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body: String,
    /// Response body in base64, if the body is not valid UTF-8. Otherwise empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body_base64: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Whole,
    /// The connection failed for the given reason.
    Broken(String),
    /// The client stopped reading before the end of the response.
    GivenUp,
}

/// Names of the response headers that a cassette stores.
const HEADERS: [&str; 6] = ["content-type", "request-id", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"];
