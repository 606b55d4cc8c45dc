//! Messages on the socket of a daemon. A connection carries one request and the replies to it. Each message is one line of JSON.

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
    /// Restarts the nodes one after another. Each node must be ready before the next node is restarted.
    Restart {
        nodes: Vec<String>,
    },
    /// Injects a fault. `fault` has the notation of `inject:` in a scenario. `lasts` is the duration after which the fault ends by itself.
    /// The daemon replies when the effect was measured, or when the measurement has failed.
    Inject {
        fault: String,
        lasts: Option<String>,
    },
    /// Requests the active faults.
    Faults,
    /// Heals the faults with these ids. An empty list means all faults. The reply contains one message per fault, which is sent when the
    /// fault has no effect any more.
    Heal {
        ids: Vec<String>,
    },
    /// Waits until the cluster ends. The connection is closed when everything of the cluster is removed.
    End,
    /// Takes the cluster down. The connection is closed when everything of the cluster is removed.
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
    /// Reply to an invalid request. It contains the rendered problems of the request.
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

/// Change of a node's state while the node starts.
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
    /// True if the cluster is up. False while the cluster starts.
    pub up: bool,
    pub nodes: Vec<NodeNow>,
    /// Descriptions of the invariants that do not hold or are unknown.
    pub broken: Vec<String>,
}

/// Properties of a kept cluster that never change. The daemon writes them into the cluster's folder.
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
    /// Path of the socket of the docker proxy. Clients use it as `DOCKER_HOST` with the prefix `unix://`.
    pub engine: PathBuf,
    /// Folder on this machine that contains all files of the nodes.
    pub work: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeNow {
    pub role: String,
    pub node: String,
    pub state: NodeState,
    pub pid: Option<u32>,
    pub ready: bool,
    /// Reason why the node is not ready. `None` if the node is ready.
    pub why: Option<String>,
    /// Number of seconds for which the node has been in the current state.
    pub since_s: f64,
    pub starts: u32,
    /// Advertised address of each port, by the name of the port.
    pub ports: IndexMap<String, SocketAddr>,
    /// Processor usage in percent of one processor. `None` if it could not be measured, or was not measured yet.
    pub cpu: Option<f64>,
    /// Memory usage in bytes. `None` if it is not known.
    pub memory: Option<u64>,
    pub memory_limit: Option<u64>,
    pub processes: Option<u32>,
    pub log: Option<PathBuf>,
}

/// Current state of a manually injected fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultNow {
    pub id: String,
    pub fault: String,
    pub targets: Vec<String>,
    /// Parameters of the fault in the notation of files. They include the links that were chosen.
    #[serde(default)]
    pub parameters: Value,
    /// Time at which the fault was injected. `None` if the injection failed.
    pub since: Option<Timestamp>,
    /// Number of microseconds that the injection took.
    pub took_us: u64,
    /// Evidence of the fault and its end, in the order in which it arrived.
    pub evidence: Vec<ManualFaultEvidence>,
    /// True if the fault was healed or has ended by itself.
    pub healed: bool,
    /// Evidence that someone else has removed the fault. `None` if there is no such evidence.
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
    /// Description of the evidence in words and numbers.
    pub detail: String,
    pub numbers: IndexMap<String, f64>,
    /// Number of microseconds from the injection to this evidence.
    pub after_us: u64,
}
