//! Workloads that clients run on a cluster, and the consistency models against which the histories of their operations are checked.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;
use chaosrun_expr::{Expr, Template};

#[derive(Debug, Clone, Serialize)]
pub struct Workload {
    pub name: String,
    pub model: Model,
    /// Number of keys to which the operations are distributed. It applies to the models `register` and `counter`.
    pub keys: u32,
    /// Size of a written value in bytes. A value is larger if its unique part needs more bytes.
    pub value_size: u32,
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    /// Rate limit that the system must enforce on the clients. It is only given for the model `limit`.
    pub limit: Option<RateLimit>,
    pub driver: Driver,
}

/// Rate limit: the maximum number of requests for one key within any time window of length `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    pub limit: u32,
    #[serde(serialize_with = "duration")]
    pub window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Operations `read`, `write` and `cas` of one value per key.
    Register,
    /// Operations `add` and `read` of one set. `read` returns all elements.
    Set,
    /// Operations `enqueue` and `dequeue` of one queue.
    Queue,
    /// Operations `add` and `read` of one counter per key.
    Counter,
    /// Operation `check` per key, which the system may allow at most `limit` times per `window`.
    Limit,
    /// The history is not checked, only the availability.
    None,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    Http {
        /// Role of the nodes that receive the operations. Each client uses one node, and switches to another node if this node fails.
        role: String,
        /// HTTP requests of the operations, by the name of the operation (`read`, `write`, `cas`, `add`, `enqueue`, `dequeue`).
        operations: IndexMap<String, HttpOperation>,
    },
    /// Program that receives operations and returns outcomes as JSON lines. One process serves all clients.
    Program { command: Vec<Template>, env: IndexMap<String, Template> },
}

#[derive(Debug, Clone, Serialize)]
pub struct HttpOperation {
    pub method: String,
    pub url: Template,
    pub headers: IndexMap<String, Template>,
    pub body: Option<Template>,
    /// Condition on the response under which the operation took effect.
    pub ok: Expr,
    /// Condition on the response under which the operation certainly had no effect. If neither `ok` nor `fail` is true, the outcome is
    /// unknown.
    pub fail: Expr,
    /// Condition on the response under which a refusal is correct: a `cas` found another value than expected, or a `check` is over the
    /// limit.
    pub mismatch: Expr,
    /// Expression for the value that a read returned. `None` for operations that return no value.
    pub value: Option<Expr>,
}
