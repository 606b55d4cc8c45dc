//! The cluster file: nodes, probes, invariants.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::{Action, Workload, duration, maybe_duration};
use crate::diagnostic::{Place, SourceFile};
use crate::event::Severity;
use crate::expr::{Expr, Template};

#[derive(Debug, Clone, Serialize)]
pub struct Cluster {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub roles: IndexMap<String, Role>,
    /// Expanded, in order of declaration: pd1, pd2, pd3, tikv1, ...
    pub nodes: Vec<Node>,
    /// How often all probes run.
    #[serde(serialize_with = "duration")]
    pub tick: Duration,
    /// Declared clock scale of stand-in nodes; `cluster.scale` in templates, printed in every report.
    pub clock_scale: Option<f64>,
    pub observe: IndexMap<String, Probe>,
    pub lets: IndexMap<String, Expr>,
    pub select: IndexMap<String, Expr>,
    pub invariants: IndexMap<String, Invariant>,
    pub workloads: IndexMap<String, Workload>,
    pub logs: IndexMap<String, LogRule>,
    /// What may be done to it.
    pub actions: IndexMap<String, Action>,
    /// Commands that must be on the PATH for the agent's shell on this backend.
    pub tools: Vec<String>,
    /// What the agent's container is made from. None on `local`.
    pub toolbox: Option<ImageSource>,
    /// Whether stand-ins take the place of real programs: the file's `standin:` sections hold.
    pub standin: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Role {
    pub name: String,
    pub nodes: Vec<String>,
    /// Roles that must be ready before this one starts.
    pub after: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Node {
    pub name: String,
    pub role: String,
    /// From 1 within its role.
    pub index: usize,
    /// Port name -> the port it has in containers. On `local` free ports are chosen.
    pub ports: IndexMap<String, u16>,
    /// What its container is made from. None on `local`.
    pub image: Option<ImageSource>,
    /// The first word `chaosrun` means this program itself.
    pub command: Vec<Template>,
    pub args: Vec<Template>,
    pub env: IndexMap<String, Template>,
    /// Name below the node's directory -> content, rendered at `up` only.
    pub files: IndexMap<String, Template>,
    pub data: Template,
    /// Bytes the data directory may hold.
    pub disk: Option<u64>,
    /// Limits of processes, by the name `docker run --ulimit` gives them (`nofile`). In containers.
    pub ulimits: IndexMap<String, u64>,
    /// Processors it may use, and bytes of memory. In containers.
    pub cpus: Option<f64>,
    pub memory: Option<u64>,
    /// Who it runs as in its container; the image's own when none.
    pub user: Option<String>,
    pub ready: Option<Ready>,
    /// Between SIGTERM and SIGKILL at a stop.
    #[serde(serialize_with = "duration")]
    pub stop_grace: Duration,
    /// Whether a fault may change its clocks, and whether one may harm its disk: only then it is started with what that
    /// takes. Both follow from the scenario's faults, so they are not part of what it is.
    #[serde(skip)]
    pub clock: bool,
    #[serde(skip)]
    pub layer: bool,
    #[serde(skip)]
    pub place: Place,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// A reference, pulled when it is not there.
    Pull(String),
    /// A folder with a Dockerfile, found as other files are; `packages` (of Debian) are added to it by the build argument
    /// `PACKAGES`.
    Build { folder: String, packages: Vec<String> },
}

#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    pub probe: ProbeKind,
    pub expect: Expr,
    #[serde(serialize_with = "duration")]
    pub within: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    pub name: String,
    pub on: On,
    pub kind: ProbeKind,
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    /// At most this often; every tick when zero.
    #[serde(serialize_with = "duration")]
    pub every: Duration,
    /// Older than this is `unknown`.
    #[serde(serialize_with = "duration")]
    pub stale_after: Duration,
    #[serde(skip)]
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// A list, an item a node, each with `.node`.
    Each(String),
    /// One answer, from the first node that gives one.
    Any(String),
    Workload,
    /// On the runner's side, no node.
    Tools,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// Is the node's process running?
    Alive,
    Http {
        method: String,
        url: Template,
        headers: IndexMap<String, Template>,
        body: Option<Template>,
    },
    /// Prometheus text scraped directly; `expr` is the metric query (`quantile(0.99, rate(NAME, 10s))`).
    Metrics {
        url: Template,
        expr: String,
        place: SkipPlace,
    },
    Tcp {
        address: Template,
    },
    /// A question to Prometheus (`url` is its address): instant, or over the last `range` in steps.
    Promql {
        url: Template,
        query: Template,
        #[serde(serialize_with = "maybe_duration")]
        range: Option<Duration>,
        #[serde(serialize_with = "duration")]
        step: Duration,
        place: SkipPlace,
    },
    /// A command to a Redis server at `address`.
    Redis {
        address: Template,
        command: Vec<Template>,
    },
    /// `on: each ROLE` = in the node; `on: tools` = beside the runner. Exit code 0 = ok, stdout = text or json.
    Exec {
        command: Vec<Template>,
    },
    /// Lines of the node's log that match, newest last, as rows of named groups.
    Log {
        pattern: String,
        #[serde(serialize_with = "duration")]
        window: Duration,
    },
    /// Statistics of the running workload over a window.
    Workload {
        #[serde(serialize_with = "duration")]
        window: Duration,
    },
}

/// A place that is left out of the printed form.
#[derive(Debug, Clone)]
pub struct SkipPlace(pub Place);

impl Serialize for SkipPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Invariant {
    pub name: String,
    pub kind: InvariantKind,
    /// A list: the condition is judged for every item.
    pub each: Option<Expr>,
    /// Which node an item is about: a node name or any of its addresses.
    pub node: Option<Expr>,
    pub expect: Expr,
    /// How long it must be broken before it counts.
    #[serde(rename = "for", serialize_with = "duration")]
    pub hold: Duration,
    pub severity: Severity,
    pub unknown: OnUnknown,
    pub description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvariantKind {
    /// Must hold in the end.
    Objective,
    /// Must hold all the time: a break makes a pass unsafe.
    Safeguard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// Keep the last known state.
    Hold,
    Violated,
}

#[derive(Debug, Clone, Serialize)]
pub struct LogRule {
    pub name: String,
    /// The role whose logs are read.
    pub role: String,
    pub pattern: String,
}
