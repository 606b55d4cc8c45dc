//! Messages on a daemon's socket: one request per connection, replies as lines of JSON until the connection closes.

use std::net::SocketAddr;
use std::path::PathBuf;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use chaosrun_base::frame::WireMessage;
use chaosrun_event::{EvidenceStep, NodeState};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum DaemonRequest {
    Status,
    /// Restarts the nodes in this order. Each node is restarted when the previous one is ready.
    Restart {
        nodes: Vec<String>,
    },
    /// Injects a fault. `fault` is written like `inject:` in a scenario. `lasts` is the time after which the fault ends by itself. The
    /// reply follows when the effect was measured, or could not be measured.
    Inject {
        fault: String,
        lasts: Option<String>,
    },
    /// Lists active faults.
    Faults,
    /// Heals these faults, or all faults if none is named. The reply contains one message per fault, sent when the fault is gone.
    Heal {
        ids: Vec<String>,
    },
    /// Waits for the end. The connection closes when everything of the cluster is removed.
    End,
    /// Takes the cluster down, and waits for the end in the same way.
    Down,
}

impl WireMessage for DaemonRequest {
    const LONGEST: usize = 64 << 10;
}

impl WireMessage for DaemonMessage {}

/// Message of a daemon to its clients, and to the process that started it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum DaemonMessage {
    Note {
        text: String,
    },
    Node {
        role: String,
        node: String,
        step: ReadinessStep,
    },
    Status(Box<KeptClusterStatus>),
    Fault(Box<FaultNow>),
    /// The request is malformed. Contains the rendered problems.
    Refused {
        problems: String,
    },
    Failed {
        message: String,
        help: Option<String>,
    },
    Ended {
        nodes: usize,
        took_us: u64,
        problem: Option<String>,
    },
}

/// Step of a node towards readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ReadinessStep {
    Started,
    Ready { after_us: u64 },
    Changed { state: NodeState },
}

/// Current state of a kept cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptClusterStatus {
    #[serde(flatten)]
    pub about: About,
    /// False while the cluster comes up.
    pub up: bool,
    pub nodes: Vec<NodeNow>,
    /// Invariants that do not hold or are unknown.
    pub broken: Vec<String>,
}

/// Constant properties of a kept cluster, also written into its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    pub file: String,
    pub backend: String,
    pub standin: bool,
    pub seed: u64,
    /// Process id of the daemon.
    pub pid: u32,
    pub since: Timestamp,
    /// Socket of the docker proxy. `DOCKER_HOST` is this path with the prefix `unix://`.
    pub engine: PathBuf,
    /// Folder with the nodes' files on this machine. If the folder is removed, nothing of the nodes is left.
    pub work: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeNow {
    pub role: String,
    pub node: String,
    pub state: NodeState,
    pub pid: Option<u32>,
    pub ready: bool,
    /// Reason why the node is not ready.
    pub why: Option<String>,
    /// Seconds in this state.
    pub since_s: f64,
    pub starts: u32,
    /// Advertised address of each port.
    pub ports: IndexMap<String, SocketAddr>,
    /// Percent of one processor. `None` if the value is not known, or not known yet.
    pub cpu: Option<f64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    pub memory_limit: Option<u64>,
    pub processes: Option<u32>,
    pub log: Option<PathBuf>,
}

/// Manually injected fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultNow {
    pub id: String,
    pub fault: String,
    pub targets: Vec<String>,
    /// Parameters in the notation of files, including the chosen links.
    #[serde(default)]
    pub parameters: Value,
    /// Time of the injection. `None` if the injection failed.
    pub since: Option<Timestamp>,
    /// Duration of the injection in microseconds.
    pub took_us: u64,
    /// Evidence in order of arrival.
    pub evidence: Vec<ManualFaultEvidence>,
    /// True if the fault was healed or is gone.
    pub healed: bool,
    /// Evidence that another actor has removed the fault.
    pub tampered: Option<String>,
}

impl FaultNow {
    #[must_use]
    pub const fn is_in_force(&self) -> bool {
        self.since.is_some() && !self.healed
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManualFaultEvidence {
    pub step: EvidenceStep,
    pub ok: bool,
    /// Details in words, with numbers.
    pub detail: String,
    pub numbers: IndexMap<String, f64>,
    /// Microseconds since the injection.
    pub after_us: u64,
}
