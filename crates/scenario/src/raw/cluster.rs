//! Raw types of cluster files: `scenarios/clusters/*.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawAction, RawDuration, RawSize, Text};
use crate::model::{InvariantKind, Model, OnUnknown};
use chaosrun_probe::{RawProbe, RawReady};

/// A cluster: its nodes, probes, invariants, workloads and actions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "cluster")]
pub struct RawCluster {
    /// Name of the cluster [default: the name of the file without extension].
    pub name: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who read the file")]
    pub description: String,
    /// Roles by name. With `count: 3`, the nodes of the role `tikv` are `tikv1`, `tikv2` and `tikv3`.
    #[serde(default)]
    #[schemars(required)]
    pub nodes: Option<IndexMap<String, RawRole>>,
    /// Interval of the probes [default: 100ms].
    pub tick: Option<RawDuration>,
    /// Factor for the timers of stand-in nodes: with 0.05 they run 20 times faster than real time. Every report prints it.
    pub clock_scale: Option<f64>,
    /// Probes by name. Each is polled once per tick. Expressions use the result by this name.
    #[serde(default)]
    pub observe: IndexMap<String, RawProbe>,
    /// Expressions by name, over observations and over the expressions that precede them. Other expressions use the result by this name.
    #[serde(default, rename = "let")]
    pub lets: IndexMap<String, Text>,
    /// Expressions by name that return a node or a list of nodes. A fault uses them as `target: NAME`.
    #[serde(default)]
    pub select: IndexMap<String, Text>,
    /// Invariants by name.
    #[serde(default)]
    pub invariants: IndexMap<String, RawInvariant>,
    /// Workloads by name. A scenario uses one of them.
    #[serde(default)]
    pub workloads: IndexMap<String, RawWorkload>,
    /// Rules by name: log lines that match are recorded as events.
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
    /// Ports by name, as used in containers. On `local`, free ports are chosen instead.
    pub ports: IndexMap<String, u16>,
    /// In containers: image, pulled if missing. Exactly one of `image` and `build` is required.
    pub image: Option<String>,
    /// In containers: folder with a Dockerfile, from which the image is built.
    pub build: Option<String>,
    /// Program and its first arguments, each a template. The word `chaosrun` stands for the chaosrun program itself.
    pub command: Vec<Text>,
    /// Further arguments, each a template.
    pub args: Vec<Text>,
    /// Environment variables by name. Each value is a template.
    pub env: IndexMap<String, Text>,
    /// Files that are rendered when the cluster starts. Key: path below the node's directory; value: path of the template.
    pub files: IndexMap<String, String>,
    /// Template of the path of the data directory [default: `{{ self.dir }}/data`].
    pub data: Option<Text>,
    /// Capacity of the data directory.
    pub disk: Option<RawSize>,
    /// In containers: resource limits by name, as in `docker run --ulimit`, for example `nofile`.
    pub ulimits: IndexMap<String, u64>,
    /// In containers: CPU limit.
    pub cpus: Option<f64>,
    /// In containers: memory limit.
    pub memory: Option<RawSize>,
    /// In containers: user of the process [default: the user of the image].
    pub user: Option<String>,
    /// Condition under which the node is ready [default: it accepts connections, or if it has no port, its process runs].
    pub ready: Option<RawReady>,
    /// Time between SIGTERM and SIGKILL when the node is stopped [default: 10s].
    pub stop_grace: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "invariant")]
pub struct RawInvariant {
    /// `objective` (must hold at the end of the trial) or `safeguard` (must hold at all times) [default: `objective`].
    pub kind: Option<InvariantKind>,
    /// Expression that returns a list. The condition is evaluated for each `item` of the list.
    pub each: Option<Text>,
    /// Expression that returns the node of an item: its name or one of its addresses.
    pub node: Option<Text>,
    /// Condition that must be true: an expression.
    pub expect: Text,
    /// Time for which the condition must be violated before the violation counts [default: 0s].
    #[serde(rename = "for")]
    pub hold: Option<RawDuration>,
    /// Severity of the ticket [default: `critical`].
    pub severity: Option<RawSeverity>,
    /// State of the invariant while the condition is unknown: `hold` (the last known state) or `violated` [default: `hold`].
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

/// A workload: operations of clients and the model that checks their history. Exactly one of `http` and `driver` is required.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "workload")]
pub struct RawWorkload {
    pub model: Model,
    /// Number of keys over which operations are spread [default: 100].
    pub keys: Option<u32>,
    /// Size of a value in bytes [default: 64].
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
    /// Role of the target nodes. A client uses one node and switches to another if the node fails.
    pub role: String,
    /// Operations by name: those of `read`, `write`, `cas`, `add`, `enqueue`, `dequeue` and `check` that the model needs.
    pub operations: IndexMap<String, RawOperation>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "operation")]
pub struct RawOperation {
    /// HTTP method [default: `GET`].
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
    /// Condition under which a refusal is correct: a `cas` found another value, or a `check` is over the limit [default: `fail` is true
    /// and the status is 409 or 412 for `cas`, 429 for `check`].
    pub mismatch: Option<Text>,
    /// Expression that returns the value of a `read`.
    pub value: Option<Text>,
}

/// A program that performs the operations of all clients in one process. It exchanges lines of JSON (docs/driver.md).
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
    /// Nodes whose logs are read: `each ROLE`.
    pub on: String,
    /// Regular expression for a line. Its named groups become fields of the event.
    #[serde(rename = "match")]
    pub pattern: String,
}

/// Commands that the shell of the agent must provide.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "tools")]
pub struct RawTools {
    /// On `local`: programs that must be in PATH of this machine.
    pub local: Vec<String>,
    /// On `docker`: folder of the agent's image [default: `images/toolbox`].
    pub docker: Option<String>,
    /// On `docker`: Debian packages added to the image of the agent.
    pub packages: Vec<String>,
}
