//! Load, and what is judged of it.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;
use crate::expr::{Expr, Template};

#[derive(Debug, Clone, Serialize)]
pub struct Workload {
    pub name: String,
    pub model: Model,
    /// Number of keys operations are spread over (register, counter).
    pub keys: u32,
    /// Bytes of a value, at least the unique part.
    pub value_size: u32,
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    /// What the clients may be allowed. With the model `limit`, and with no other.
    pub limit: Option<RateLimit>,
    pub driver: Driver,
}

/// At most so many requests of a key within any window of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    pub limit: u32,
    #[serde(serialize_with = "duration")]
    pub window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// read, write, cas by key.
    Register,
    /// add, read (all).
    Set,
    /// enqueue, dequeue.
    Queue,
    /// add, read by key.
    Counter,
    /// check by key: allowed at most `limit` times in a `window`.
    Limit,
    /// Only availability is judged.
    None,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    Http {
        /// The role whose nodes are asked; a client keeps to one and moves on when it fails.
        role: String,
        /// Operation name (`read`, `write`, `cas`, `add`, `enqueue`, `dequeue`) -> how.
        operations: IndexMap<String, HttpOperation>,
    },
    /// A program that speaks JSON lines, one process for all clients.
    Program { command: Vec<Template>, env: IndexMap<String, Template> },
}

#[derive(Debug, Clone, Serialize)]
pub struct HttpOperation {
    pub method: String,
    pub url: Template,
    pub headers: IndexMap<String, Template>,
    pub body: Option<Template>,
    /// It happened.
    pub ok: Expr,
    /// It certainly did not happen. Neither = unknown.
    pub fail: Expr,
    /// It was rightly refused: something else was there than a `cas` expected, or a `check` is over the limit.
    pub mismatch: Expr,
    /// What was read, for reads.
    pub value: Option<Expr>,
}
