//! Resolved cluster file: nodes, probes, invariants.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Workload, duration};
use chaosrun_diagnostic::{SourceFile, SourcePlace};
use chaosrun_event::Severity;
use chaosrun_expr::{Expr, Template};
use chaosrun_fault::FaultNode;
use chaosrun_probe::ProbeSpec;

#[derive(Debug, Clone, Serialize)]
pub struct ClusterSpec {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub roles: IndexMap<String, Role>,
    /// Nodes of all roles, in order of declaration: pd1, pd2, pd3, tikv1, ...
    pub nodes: Vec<Node>,
    /// Interval of the probes.
    #[serde(serialize_with = "duration")]
    pub tick: Duration,
    /// Declared clock scale of stand-in nodes: `cluster.scale` in templates. Every report prints the scale.
    pub clock_scale: Option<f64>,
    pub observe: IndexMap<String, Probe>,
    pub lets: IndexMap<String, Expr>,
    pub select: IndexMap<String, Expr>,
    pub invariants: IndexMap<String, Invariant>,
    pub workloads: IndexMap<String, Workload>,
    pub logs: IndexMap<String, LogRule>,
    /// Actions that agents may use on the cluster.
    pub actions: IndexMap<String, Action>,
    /// Commands that must be on the PATH of the agent's shell on this backend.
    pub tools: Vec<String>,
    /// Image of the agent's container. `None` on `local`.
    pub toolbox: Option<ImageSource>,
    /// True if stand-ins replace the real programs. The `standin:` sections of the file then apply.
    pub standin: bool,
}

impl ClusterSpec {
    /// Returns the facts about nodes on which faults depend, in the order of the cluster.
    #[must_use]
    pub fn fault_nodes(&self) -> Vec<FaultNode> {
        let facts = |node: &Node| FaultNode {
            name: node.name.clone(),
            role: node.role.clone(),
            ports: node.ports.keys().cloned().collect(),
            files: node.files.keys().cloned().collect(),
            has_disk: node.disk.is_some(),
            has_memory_limit: node.memory.is_some(),
            is_standin: node.command.first().is_some_and(|word| word.text == "chaosrun"),
        };
        self.nodes.iter().map(facts).collect()
    }
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
    /// Number within its role, from 1.
    pub index: usize,
    /// Ports in containers by name. On `local`, free ports are chosen.
    pub ports: IndexMap<String, u16>,
    /// Image of the node's container. `None` on `local`.
    pub image: Option<ImageSource>,
    /// Program and arguments. The first word `chaosrun` stands for this program itself.
    pub command: Vec<Template>,
    pub args: Vec<Template>,
    pub env: IndexMap<String, Template>,
    /// Files by their names below the node's directory, with the templates of their contents. They are rendered only at `up`.
    pub files: IndexMap<String, Template>,
    pub data: Template,
    /// Capacity of the data directory in bytes.
    pub disk: Option<u64>,
    /// Limits of processes, by the names that `docker run --ulimit` uses (such as `nofile`). In containers only.
    pub ulimits: IndexMap<String, u64>,
    /// Number of processors that the node may use. In containers only.
    pub cpus: Option<f64>,
    pub memory: Option<u64>,
    /// User of the node's processes in the container. `None` stands for the user of the image.
    pub user: Option<String>,
    pub ready: Option<Ready>,
    /// Time between SIGTERM and SIGKILL at a stop.
    #[serde(serialize_with = "duration")]
    pub stop_grace: Duration,
    /// True if a fault may change the node's clocks. The same holds for `layer` and the node's disk. The node is started with the necessary
    /// equipment only in these cases.
    ///
    /// Both values follow from the scenario's faults, so they are not part of the node's serialized form.
    #[serde(skip)]
    pub clock: bool,
    #[serde(skip)]
    pub layer: bool,
    #[serde(skip)]
    pub place: SourcePlace,
}

/// Source of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// Image reference, pulled if missing.
    Pull(String),
    /// Folder with a Dockerfile, found like other files. The build argument `PACKAGES` contains the Debian packages `packages`.
    Build { folder: String, packages: Vec<String> },
}

#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    pub probe: ProbeSpec,
    pub expect: Expr,
    #[serde(serialize_with = "duration")]
    pub within: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    pub name: String,
    pub on: On,
    pub kind: ProbeSpec,
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    /// Minimum interval. Zero means every tick.
    #[serde(serialize_with = "duration")]
    pub every: Duration,
    /// Age from which a result is `unknown`.
    #[serde(serialize_with = "duration")]
    pub stale_after: Duration,
    #[serde(skip)]
    pub place: SourcePlace,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Asks every node of the role. The result is a list with one item per node, and each item has `.node`.
    Each(String),
    /// Asks the nodes of the role until one answers. The result is this answer.
    Any(String),
    Workload,
    /// Runs on the machine of the runner, not in a node.
    Tools,
}

#[derive(Debug, Clone, Serialize)]
pub struct Invariant {
    pub name: String,
    pub kind: InvariantKind,
    /// List. The condition is evaluated for every item.
    pub each: Option<Expr>,
    /// Node of an item. The value is the name of a node or any of its addresses.
    pub node: Option<Expr>,
    pub expect: Expr,
    /// Time for which the condition must be violated before the violation counts.
    #[serde(rename = "for", serialize_with = "duration")]
    pub hold: Duration,
    pub severity: Severity,
    pub unknown: OnUnknown,
    pub description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvariantKind {
    /// The invariant must hold at the end of the trial.
    Objective,
    /// The invariant must hold at all times. A violation turns a `pass` into an `unsafe_pass`.
    Safeguard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// The invariant keeps its last known state.
    Hold,
    Violated,
}

#[derive(Debug, Clone, Serialize)]
pub struct LogRule {
    pub name: String,
    /// Role whose logs are read.
    pub role: String,
    pub pattern: String,
}
