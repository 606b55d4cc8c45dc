//! What is said over a keeper's socket: one question a connection, answers as lines of JSON until the connection ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{EvidenceStep, NodeState};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    Status,
    /// One after the other in this order, each when the one before is ready.
    Restart {
        nodes: Vec<String>,
    },
    /// A fault as under `inject:` of a scenario, and after what time it passes by itself. Answered when it is felt, or is not.
    Inject {
        fault: String,
        lasts: Option<String>,
    },
    /// Those that are in force.
    Faults,
    /// Each answered when it is gone; none = all.
    Heal {
        ids: Vec<String>,
    },
    /// Answered by the end of the connection, when nothing of the cluster is left.
    End,
    /// The same, and be it.
    Down,
}

/// What a keeper tells, and what it tells who started it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    Note {
        text: String,
    },
    Node {
        role: String,
        node: String,
        step: Step,
    },
    Status(Box<Status>),
    Fault(Box<FaultNow>),
    /// What was asked for is malformed: the problems as they are drawn.
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

/// A step of a node on its way to be ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Step {
    Started,
    Ready { after_us: u64 },
    Changed { state: NodeState },
}

/// A kept cluster as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub about: About,
    /// False while it comes up.
    pub up: bool,
    pub nodes: Vec<NodeNow>,
    /// Invariants that do not hold, or are not known.
    pub broken: Vec<String>,
}

/// What does not change while a cluster is kept. Also written into its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    pub file: String,
    pub backend: String,
    pub standin: bool,
    pub seed: u64,
    /// Of the keeper.
    pub pid: u32,
    pub since: Timestamp,
    /// The mediated engine's socket: what `DOCKER_HOST` names behind `unix://`.
    pub engine: PathBuf,
    /// What the nodes see of this machine; its end is the end of all they left.
    pub work: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeNow {
    pub role: String,
    pub node: String,
    pub state: NodeState,
    pub pid: Option<u32>,
    pub ready: bool,
    /// Why it is not ready, in words.
    pub why: Option<String>,
    /// How long it has been in this state.
    pub since_s: f64,
    pub starts: u32,
    /// The advertised address of each port.
    pub ports: IndexMap<String, SocketAddr>,
    /// Percent of one processor; none where it cannot be told, or not yet.
    pub cpu: Option<f64>,
    /// Bytes.
    pub memory: Option<u64>,
    pub memory_limit: Option<u64>,
    pub processes: Option<u32>,
    pub log: Option<PathBuf>,
}

/// A fault that was injected by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultNow {
    pub id: String,
    pub fault: String,
    pub targets: Vec<String>,
    /// As people write them, and the links that were chosen.
    #[serde(default)]
    pub parameters: Value,
    /// None: it was not injected.
    pub since: Option<Timestamp>,
    /// The injection.
    pub took_us: u64,
    /// In the order in which it was found.
    pub evidence: Vec<Evidence>,
    /// We have removed it, or it is gone.
    pub healed: bool,
    /// How it showed that somebody else has removed it.
    pub tampered: Option<String>,
}

impl FaultNow {
    #[must_use]
    pub const fn is_in_force(&self) -> bool {
        self.since.is_some() && !self.healed
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub step: EvidenceStep,
    pub ok: bool,
    /// In words with numbers.
    pub detail: String,
    pub numbers: IndexMap<String, f64>,
    /// Since the injection.
    pub after_us: u64,
}
