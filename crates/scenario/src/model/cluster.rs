//! Resolved cluster file: its nodes, probes and invariants.

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
    /// Nodes of all roles, in the order in which the roles are declared, such as pd1, pd2, pd3, tikv1.
    pub nodes: Vec<Node>,
    /// Interval between two rounds of probes.
    #[serde(serialize_with = "duration")]
    pub tick: Duration,
    /// Clock scale that the cluster file declares for stand-in nodes. Templates use it as `cluster.scale`. Every report prints it. `None`
    /// if the file declares no clock scale.
    pub clock_scale: Option<f64>,
    pub observe: IndexMap<String, Probe>,
    pub lets: IndexMap<String, Expr>,
    pub select: IndexMap<String, Expr>,
    pub invariants: IndexMap<String, Invariant>,
    pub workloads: IndexMap<String, Workload>,
    pub logs: IndexMap<String, LogRule>,
    /// Actions that agents may use on the cluster, by name.
    pub actions: IndexMap<String, Action>,
    /// Names of commands that must be on the PATH of the agent's shell on this backend.
    pub tools: Vec<String>,
    /// Image of the container in which the agent works. `None` on the backend `local`.
    pub toolbox: Option<ImageSource>,
    /// True if stand-ins replace the real programs. In this case, the `standin:` sections of the file apply.
    pub standin: bool,
}

impl ClusterSpec {
    /// Returns the properties of nodes that faults depend on, for all nodes in the order of `nodes`.
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
    /// Names of roles that must be ready before the nodes of this role start.
    pub after: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Node {
    pub name: String,
    pub role: String,
    /// Number of the node within its role, starting at 1.
    pub index: usize,
    /// Port numbers that the node uses in a container, by the name of the port. On the backend `local`, free ports are chosen instead.
    pub ports: IndexMap<String, u16>,
    /// Image of the container in which the node runs. `None` on the backend `local`.
    pub image: Option<ImageSource>,
    /// Program and arguments of the node. If the first word is `chaosrun`, the running program itself is used.
    pub command: Vec<Template>,
    pub args: Vec<Template>,
    pub env: IndexMap<String, Template>,
    /// Templates of the node's files, by their paths below the node's directory. The files are rendered when the cluster starts.
    pub files: IndexMap<String, Template>,
    pub data: Template,
    /// Capacity of the data directory in bytes. `None` means that the capacity is not limited.
    pub disk: Option<u64>,
    /// Resource limits of the node's processes, by the names that `docker run --ulimit` uses, such as `nofile`. They apply in containers
    /// only.
    pub ulimits: IndexMap<String, u64>,
    /// Number of processors that the node may use, in containers only. `None` means no limit.
    pub cpus: Option<f64>,
    pub memory: Option<u64>,
    /// User of the node's processes in the container. `None` means the user that the image declares.
    pub user: Option<String>,
    pub ready: Option<Ready>,
    /// Time between SIGTERM and SIGKILL when the node is stopped.
    #[serde(serialize_with = "duration")]
    pub stop_grace: Duration,
    /// True if a fault of the scenario may change the node's clocks. In this case, the node starts with a library that controls its clocks.
    /// The field `layer` is true if a fault may affect the node's disk.
    ///
    /// The values of `clock` and `layer` follow from the scenario's faults. They are therefore not part of the serialized node.
    #[serde(skip)]
    pub clock: bool,
    #[serde(skip)]
    pub layer: bool,
    #[serde(skip)]
    pub place: SourcePlace,
}

/// Source of a container image: a registry or a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// Image with this reference. It is pulled if it is not present.
    Pull(String),
    /// Image that is built from a Dockerfile in `folder`. The folder is searched like other files. The build argument `PACKAGES` lists the
    /// Debian packages `packages`.
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
    /// Minimum interval between two executions of the probe. Zero means that the probe runs in every round of probes.
    #[serde(serialize_with = "duration")]
    pub every: Duration,
    /// Age from which a result of the probe counts as `unknown`.
    #[serde(serialize_with = "duration")]
    pub stale_after: Duration,
    #[serde(skip)]
    pub place: SourcePlace,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The probe runs on every node of the role. The result is a list with one item per node. The field `.node` of an item names the node.
    Each(String),
    /// The probe tries the nodes of the role until one of them answers. The result is the answer of that node.
    Any(String),
    Workload,
    /// The probe runs on the machine of the runner, not in a node.
    Tools,
}

#[derive(Debug, Clone, Serialize)]
pub struct Invariant {
    pub name: String,
    pub kind: InvariantKind,
    /// Expression for a list. The condition `expect` is evaluated for every item of the list. `None` means that `expect` is evaluated once.
    pub each: Option<Expr>,
    /// Expression for the node that an item belongs to. The value of the expression is the name of the node or one of the node's addresses.
    pub node: Option<Expr>,
    pub expect: Expr,
    /// Time for which the condition must be violated continuously before the invariant counts as violated.
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
    /// Role of the nodes whose logs are searched for the pattern.
    pub role: String,
    pub pattern: String,
}
