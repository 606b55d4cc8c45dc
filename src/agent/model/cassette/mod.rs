//! Cassettes: a file of everything that passed between agents and their models, and agents that live on it.
//!
//! JSON lines: one that says what the file is and of which trial, then one for each exchange, tries that failed included. Keys are in
//! none of them. The n-th request of a session is answered with its n-th exchange.

mod compare;
mod record;
mod replay;
mod shelf;
mod tape;
#[cfg(test)]
mod tests;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use compare::Difference;
pub use record::Recorder;
pub use replay::{Cassette, Divergence, Replay};
pub use shelf::{is_one, shelf};
pub use tape::{AGENT, LENGTHS, SERVED, SUMMARY, Tape, ToRecord};

pub use crate::scenario::model::Matching as Mode;

const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    cassette: u32,
    program: String,
    recorded: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<Origin>,
}

/// The trial that a cassette was recorded in, with all that its agent was made of: it is made again of this alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub scenario: String,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub cell: IndexMap<String, Value>,
    pub seed: u64,
    pub repeat: usize,
    pub variant: String,
    /// Digest of the variant.
    pub subject: String,
    /// The text of the variant's file.
    pub file: String,
    /// The texts of its templates, by the keys that name them.
    pub templates: IndexMap<String, String>,
    /// The texts of the files that its program brings along, by the names that they have there.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub files: IndexMap<String, String>,
}

impl Origin {
    /// `node_kill/kitchen, seed 7`
    #[must_use]
    pub fn words(&self) -> String {
        format!("{}/{}, seed {}", self.scenario, self.variant, self.seed)
    }
}

/// A request and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Exchange {
    /// Tells the agents of a file apart.
    session: String,
    /// From 1, in the session.
    seq: u32,
    wire: String,
    path: String,
    /// Of the request, without what is not of its meaning.
    hash: String,
    request: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
    end: End,
    /// Since the cassette was begun.
    at_ms: u64,
    /// Until the head of the answer came.
    head_ms: u64,
    /// Until its end.
    ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body: String,
    /// A body that is no text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body_base64: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Whole,
    /// The connection failed, with why.
    Broken(String),
    /// Whoever asked did not wait for the end.
    GivenUp,
}

/// The headers of answers that mean something to a client.
const HEADERS: [&str; 6] = ["content-type", "request-id", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"];
