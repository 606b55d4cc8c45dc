//! `scenarios/clusters/*.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawAction, RawDuration, RawSize, Text};
use crate::model::{InvariantKind, Model, OnUnknown};
use chaosrun_probe::{RawProbe, RawReady};

/// A system: its nodes, probes, invariants and workloads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "cluster")]
pub struct RawCluster {
    /// The file's name unless given.
    pub name: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who read the file")]
    pub description: String,
    /// Roles, by name. With `count: 3` the nodes of `tikv` are tikv1, tikv2, tikv3.
    #[serde(default)]
    #[schemars(required)]
    pub nodes: Option<IndexMap<String, RawRole>>,
    /// Interval of the probes [default: 100ms].
    pub tick: Option<RawDuration>,
    /// Scale of the timers of stand-in nodes; 0.05 is 20 times faster than real time. Printed in every report.
    pub clock_scale: Option<f64>,
    /// Probes by name: polled once per tick, used by name in expressions.
    #[serde(default)]
    pub observe: IndexMap<String, RawProbe>,
    /// Named expressions over the observations and the names above.
    #[serde(default, rename = "let")]
    pub lets: IndexMap<String, Text>,
    /// Expressions that return a node or a list of nodes, for use as `target: NAME`.
    #[serde(default)]
    pub select: IndexMap<String, Text>,
    #[serde(default)]
    pub invariants: IndexMap<String, RawInvariant>,
    #[serde(default)]
    pub workloads: IndexMap<String, RawWorkload>,
    /// Log lines that are recorded as events.
    #[serde(default)]
    pub logs: IndexMap<String, RawLogRule>,
    #[serde(default)]
    pub tools: RawTools,
    /// Actions by name, offered to agents with the tool `act`.
    #[serde(default)]
    pub actions: IndexMap<String, RawAction>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[schemars(rename = "role")]
pub struct RawRole {
    /// Number of nodes. Without it, there is one node with the name of the role.
    pub count: Option<usize>,
    /// Roles that must be ready before this one starts.
    pub after: OneOrMany<String>,
    /// Ports by name. On `local` free ports are chosen; these are the ports in containers.
    pub ports: IndexMap<String, u16>,
    /// In containers: an image, pulled if missing. Alternative: `build`.
    pub image: Option<String>,
    /// In containers: a folder with a Dockerfile.
    pub build: Option<String>,
    /// Program and its first arguments. The word `chaosrun` stands for this program.
    pub command: Vec<Text>,
    /// Further arguments: templates.
    pub args: Vec<Text>,
    pub env: IndexMap<String, Text>,
    /// Files below the node's directory, by name: the template's path. Rendered at `up` only.
    pub files: IndexMap<String, String>,
    /// The data directory [default: `{{ self.dir }}/data`].
    pub data: Option<Text>,
    /// Capacity of the data directory.
    pub disk: Option<RawSize>,
    /// In containers: limits by the name that `docker run --ulimit` gives them, such as `nofile`.
    pub ulimits: IndexMap<String, u64>,
    /// In containers: CPU limit.
    pub cpus: Option<f64>,
    /// In containers: memory limit.
    pub memory: Option<RawSize>,
    /// In containers: user of the process [default: the user of the image].
    pub user: Option<String>,
    pub ready: Option<RawReady>,
    /// Between SIGTERM and SIGKILL at a stop [default: 10s].
    pub stop_grace: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "invariant")]
pub struct RawInvariant {
    /// `objective` (must hold in the end, the default) or `safeguard` (must hold all the time).
    pub kind: Option<InvariantKind>,
    /// List; the condition is evaluated for every `item`.
    pub each: Option<Text>,
    /// Node of an item: its name or one of its addresses.
    pub node: Option<Text>,
    /// Condition that must be true.
    pub expect: Text,
    /// Time for which the condition must be violated before the violation counts [default: 0s].
    #[serde(rename = "for")]
    pub hold: Option<RawDuration>,
    /// [default: critical]
    pub severity: Option<RawSeverity>,
    /// Handling of an unknown condition: `hold` (keep the last state, the default) or `violated`.
    pub unknown: Option<OnUnknown>,
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "severity")]
pub enum RawSeverity {
    Info,
    Warning,
    Critical,
}

/// A way to use the system. Exactly one of `http` and `driver`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "workload")]
pub struct RawWorkload {
    pub model: Model,
    /// Number of keys over which operations are spread [default: 100].
    pub keys: Option<u32>,
    /// Bytes of a value [default: 64].
    pub value_size: Option<u32>,
    /// Time limit of one operation [default: 1s].
    pub timeout: Option<RawDuration>,
    /// Maximum number of allowed checks of a key within a `window`. Only with the model `limit`.
    pub limit: Option<u32>,
    /// Length of the window for `limit`. Only with the model `limit`.
    pub window: Option<RawDuration>,
    pub http: Option<RawHttpDriver>,
    pub driver: Option<RawDriver>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http_driver")]
pub struct RawHttpDriver {
    /// Role of the target nodes; a client uses one node and switches to another if it fails.
    pub role: String,
    /// `read`, `write`, `cas`, `add`, `enqueue`, `dequeue`, `check`, as the model needs.
    pub operations: IndexMap<String, RawOperation>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "operation")]
pub struct RawOperation {
    /// [default: GET]
    pub method: Option<String>,
    pub url: Text,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
    /// Condition under which the operation took effect [default: `status == 200`].
    pub ok: Option<Text>,
    /// Condition under which the operation certainly had no effect [default: never]. If neither `ok` nor `fail` is true, the outcome
    /// is unknown.
    pub fail: Option<Text>,
    /// Condition under which a refusal is correct and no failure: a `cas` found another value, or a `check` is over the limit
    /// [default: `fail` with status 409 or 412 for `cas`, 429 for `check`].
    pub mismatch: Option<Text>,
    /// Value that a read returned.
    pub value: Option<Text>,
}

/// A program that speaks JSON lines, one process for all clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "driver")]
pub struct RawDriver {
    pub command: Vec<Text>,
    #[serde(default)]
    pub env: IndexMap<String, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "log_rule")]
pub struct RawLogRule {
    /// `each ROLE`.
    pub on: String,
    /// A regular expression; its named groups become fields.
    #[serde(rename = "match")]
    pub pattern: String,
}

/// Commands that the shell of the agent must provide.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "tools")]
pub struct RawTools {
    /// On `local`: programs of this machine.
    pub local: Vec<String>,
    /// On `docker` [default: the folder of the agent's image, `images/toolbox`].
    pub docker: Option<String>,
    /// On `docker`: Debian packages added to the image of the agent.
    pub packages: Vec<String>,
}
