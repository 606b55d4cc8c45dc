//! `scenarios/clusters/*.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawAction, RawDuration, RawSize, Short, Text};
use crate::scenario::model::{InvariantKind, Model, OnUnknown};

/// A system: its nodes, how to see whether it is well, and how to use it.
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
    /// How often all probes run: 100ms unless given.
    pub tick: Option<RawDuration>,
    /// How fast the clocks of stand-in nodes are: 0.05 = 20 times faster than real. Printed in every report.
    pub clock_scale: Option<f64>,
    /// Probes, by name: polled together once a tick, used by name in expressions.
    #[serde(default)]
    pub observe: IndexMap<String, RawProbe>,
    /// Named expressions over the observations and the names above.
    #[serde(default, rename = "let")]
    pub lets: IndexMap<String, Text>,
    /// Expressions that give a node or a list of nodes: what `target: NAME` means.
    #[serde(default)]
    pub select: IndexMap<String, Text>,
    #[serde(default)]
    pub invariants: IndexMap<String, RawInvariant>,
    #[serde(default)]
    pub workloads: IndexMap<String, RawWorkload>,
    /// Log lines that are worth an event.
    #[serde(default)]
    pub logs: IndexMap<String, RawLogRule>,
    #[serde(default)]
    pub tools: RawTools,
    /// What may be done to it, by name: what an agent with the tool `act` is offered.
    #[serde(default)]
    pub actions: IndexMap<String, RawAction>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[schemars(rename = "role")]
pub struct RawRole {
    /// How many nodes. Without it there is one, named as the role is.
    pub count: Option<usize>,
    /// Roles that must be ready before this one starts.
    pub after: OneOrMany<String>,
    /// Ports by name. On `local` free ports are chosen; these are the ports in containers.
    pub ports: IndexMap<String, u16>,
    /// In containers: an image, pulled when it is not there. `build` takes its place.
    pub image: Option<String>,
    /// In containers: a folder with a Dockerfile.
    pub build: Option<String>,
    /// The program and its first arguments. The word `chaosrun` means this program itself.
    pub command: Vec<Text>,
    /// Further arguments: templates.
    pub args: Vec<Text>,
    pub env: IndexMap<String, Text>,
    /// Files below the node's directory, by name: the template's path. Rendered at `up` only.
    pub files: IndexMap<String, String>,
    /// The data directory: `{{ self.dir }}/data` unless given.
    pub data: Option<Text>,
    /// How much the data directory may hold.
    pub disk: Option<RawSize>,
    /// In containers: limits by the name that `docker run --ulimit` gives them, such as `nofile`.
    pub ulimits: IndexMap<String, u64>,
    /// In containers: processors it may use.
    pub cpus: Option<f64>,
    /// In containers: memory it may use.
    pub memory: Option<RawSize>,
    /// In containers: who it runs as; the image's own user unless given.
    pub user: Option<String>,
    pub ready: Option<RawReady>,
    /// Between SIGTERM and SIGKILL at a stop: 10s unless given.
    pub stop_grace: Option<RawDuration>,
}

/// When a node counts as started.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ready")]
pub struct RawReady {
    pub http: Option<Short<RawHttp>>,
    /// `host:port`
    pub tcp: Option<Text>,
    /// A command to the Redis server that it is.
    pub redis: Option<RawRedis>,
    /// A command in the node; exit code 0 = ok.
    pub exec: Option<Vec<Text>>,
    /// A regular expression on the node's log.
    pub log: Option<String>,
    /// Over `status`, `json`, `text`: a status of 200 to 299, exit code 0, or any answer at all unless given.
    pub expect: Option<Text>,
    /// 30s unless given.
    pub within: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http")]
pub struct RawHttp {
    pub url: Text,
    /// GET unless given.
    pub method: Option<String>,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "promql")]
pub struct RawPromql {
    /// Address of Prometheus, such as `http://{{ self.client }}`.
    pub url: Text,
    pub query: Text,
    /// Over this time up to now; the newest value alone unless given.
    pub range: Option<RawDuration>,
    /// Between two values of a range: a tenth of it unless given.
    pub step: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "redis")]
pub struct RawRedis {
    /// `host:port`
    pub address: Text,
    /// The command and its arguments, a word each.
    pub command: Vec<Text>,
}

/// One thing to look at. Exactly one of `alive`, `http`, `metrics`, `promql`, `redis`, `tcp`, `exec`, `log`; none with `on: workload`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "probe")]
pub struct RawProbe {
    /// `each ROLE` (a list, an item a node), `any ROLE` (the first that answers), `workload` or `tools`.
    pub on: String,
    /// Is the node's process running?
    pub alive: Option<bool>,
    pub http: Option<Short<RawHttp>>,
    /// Address of Prometheus text; asked with `expr`.
    pub metrics: Option<Text>,
    /// `quantile(0.99, rate(NAME, 10s))`, for `metrics`.
    pub expr: Option<String>,
    /// `host:port`
    pub tcp: Option<Text>,
    /// A question to Prometheus.
    pub promql: Option<RawPromql>,
    /// A command to a Redis server.
    pub redis: Option<RawRedis>,
    /// A command: in the node with `on: each ROLE`, beside the runner with `on: tools`.
    pub exec: Option<Vec<Text>>,
    /// A regular expression on the node's log; its named groups are the columns of `.rows`.
    pub log: Option<String>,
    /// How far back `log` and `on: workload` look: 10s unless given.
    pub window: Option<RawDuration>,
    /// 1s unless given.
    pub timeout: Option<RawDuration>,
    /// At most this often: every tick unless given.
    pub every: Option<RawDuration>,
    /// Older answers are unknown: 3s after it was due unless given.
    pub stale_after: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "invariant")]
pub struct RawInvariant {
    /// `objective` (must hold in the end, the default) or `safeguard` (must hold all the time).
    pub kind: Option<InvariantKind>,
    /// A list: the condition is judged for every `item`.
    pub each: Option<Text>,
    /// The node an item is about: its name or any of its addresses.
    pub node: Option<Text>,
    /// What must be true.
    pub expect: Text,
    /// How long it must be broken before it counts: 0s unless given.
    #[serde(rename = "for")]
    pub hold: Option<RawDuration>,
    /// critical unless given.
    pub severity: Option<RawSeverity>,
    /// What an unknown condition means: `hold` (keep the last state, the default) or `violated`.
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
    /// How many keys operations are spread over: 100 unless given.
    pub keys: Option<u32>,
    /// Bytes of a value: 64 unless given.
    pub value_size: Option<u32>,
    /// Of one operation: 1s unless given.
    pub timeout: Option<RawDuration>,
    /// With the model `limit`: how many checks of a key may be allowed within a `window`.
    pub limit: Option<u32>,
    /// With the model `limit`.
    pub window: Option<RawDuration>,
    pub http: Option<RawHttpDriver>,
    pub driver: Option<RawDriver>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http_driver")]
pub struct RawHttpDriver {
    /// The role whose nodes are asked; a client keeps to one and moves on when it fails.
    pub role: String,
    /// `read`, `write`, `cas`, `add`, `enqueue`, `dequeue`, `check`, as the model needs.
    pub operations: IndexMap<String, RawOperation>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "operation")]
pub struct RawOperation {
    /// GET unless given.
    pub method: Option<String>,
    pub url: Text,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
    /// It happened: `status == 200` unless given.
    pub ok: Option<Text>,
    /// It certainly did not happen: never unless given. Neither = unknown.
    pub fail: Option<Text>,
    /// It was rightly refused, which is no failure: a `cas` found something else there, a `check` is over the limit. Unless
    /// given a `fail` with status 409 or 412, or 429.
    pub mismatch: Option<Text>,
    /// What was read.
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

/// Commands that the agent's shell must have.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "tools")]
pub struct RawTools {
    /// On `local`: programs of this machine.
    pub local: Vec<String>,
    /// On `docker`: the folder of the agent's image, `images/toolbox` unless given.
    pub docker: Option<String>,
    /// On `docker`: packages of Debian that are added to it.
    pub packages: Vec<String>,
}
