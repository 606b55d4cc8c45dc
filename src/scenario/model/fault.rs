//! What is done to a cluster.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Target, duration};
use crate::cluster::harm::{DiskErrno, DiskOperation, Shape};
use crate::expr::{Expr, Template};

/// One fault with its parameters. A file each in `chaos/` injects it, proves it and heals it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Signal to the whole process group, SIGKILL by default.
    NodeKill {
        target: Target,
        signal: Signal,
    },
    /// SIGTERM, then SIGKILL after `grace`.
    NodeStop {
        target: Target,
        #[serde(serialize_with = "duration")]
        grace: Duration,
    },
    /// Again and again, with a pause that grows.
    NodeRestart {
        target: Target,
        times: u32,
        /// Before the second one.
        #[serde(serialize_with = "duration")]
        every: Duration,
        /// Each pause is so many times the one before.
        backoff: f64,
        #[serde(serialize_with = "duration")]
        grace: Duration,
    },
    /// SIGSTOP to the whole process group.
    NodePause {
        target: Target,
    },
    /// SIGKILL so long after each start, until healed.
    CrashLoop {
        target: Target,
        #[serde(serialize_with = "duration")]
        after: Duration,
    },
    Link(LinkFault),
    NetworkPartition(Partition),
    /// The disk of the node's data is filled.
    DiskPressure {
        target: Target,
        amount: DiskAmount,
        ramp: Option<Ramp>,
        /// Of the file that takes the space, where it can be seen.
        file: String,
    },
    /// What is added to each operation.
    DiskSlow {
        target: Target,
        #[serde(serialize_with = "duration")]
        read: Duration,
        #[serde(serialize_with = "duration")]
        write: Duration,
        #[serde(serialize_with = "duration")]
        sync: Duration,
    },
    /// A share (0 to 1) of the operations fails.
    DiskError {
        target: Target,
        share: f64,
        errno: DiskErrno,
        operations: Vec<DiskOperation>,
    },
    /// The node is killed, and what it wrote and did not sync is gone.
    LostUnsyncedWrites {
        target: Target,
    },
    /// The wall clock of the node's processes is wrong by so much.
    ClockSkew {
        target: Target,
        offset_us: i64,
    },
    /// The clocks of the node's processes go so many times as fast.
    ClockRate {
        target: Target,
        rate: f64,
    },
    /// Work in the node's own limits: processors, and how much of their time (0 to 100).
    CpuStress {
        target: Target,
        cores: f64,
        percent: f64,
        ramp: Option<Ramp>,
    },
    MemoryStress {
        target: Target,
        amount: MemoryAmount,
    },
    /// A file of the node is changed, and the node restarted so that it reads it.
    ConfigChange {
        target: Target,
        file: String,
        change: Change,
        restart: bool,
    },
    /// Variables in place of the cluster file's; none = taken away. Then the node is restarted.
    EnvChange {
        target: Target,
        env: IndexMap<String, Option<Template>>,
    },
    /// Arguments added to, or taken from, the cluster file's. Then the node is restarted.
    ProcessArgs {
        target: Target,
        add: Vec<Template>,
        remove: Vec<Template>,
    },
    /// A command in the node.
    Exec {
        target: Target,
        command: Vec<Template>,
        /// Run in the node to take it back; empty = it cannot be.
        undo: Vec<Template>,
        /// True while the fault is felt. None = that the command ended well is all the evidence there is.
        felt: Option<Box<Expr>>,
    },
    /// A request to the node.
    Http {
        target: Target,
        request: Request,
        undo: Option<Box<Request>>,
        felt: Option<Box<Expr>>,
    },
}

/// Packets between nodes: `latency`, `packet_loss`, ...
#[derive(Debug, Clone, Serialize)]
pub struct LinkFault {
    pub kind: LinkKind,
    /// Who sends. None = all that do not receive; the one of both that is there is what is chosen first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,
    /// Names of ports: only connections dialled to them. Empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// The other direction too.
    pub symmetric: bool,
    pub shape: Shape,
    /// Of what the kind is about: seconds, a share, or bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    Latency,
    PacketLoss,
    Duplicate,
    Corrupt,
    Reorder,
    Bandwidth,
    ConnectionReset,
}

/// Links between nodes are cut.
#[derive(Debug, Clone, Serialize)]
pub struct Partition {
    pub split: Split,
    /// Names of ports: only connections dialled to them. Empty = all.
    pub ports: Vec<String>,
    /// Of an isolation only what the others send; of groups only what later groups send to earlier ones.
    pub one_way: bool,
    pub mode: CutMode,
}

/// Who does not hear whom, in the words of Jepsen's nemesis.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The targets from everybody else, or from `from`.
    Isolate { target: Target, from: Option<Target> },
    /// Each group from every other.
    Groups(Vec<Target>),
    /// Two halves, the first one smaller when they are odd.
    Halves(Target),
    /// Two halves that only one node, which belongs to neither, sees both of.
    Bridge(Target),
    /// Each sees a majority, no two see the same one.
    MajoritiesRing(Target),
    /// Fewer than a third from the rest.
    MinorityThird(Target),
}

/// How a direction of a link is cut, the strictest last. A new connection needs both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CutMode {
    /// What is sent waits, and goes on when the link is mended.
    Stall,
    /// A black hole.
    Drop,
    /// Whoever sends hears at once that nobody is there.
    Reject,
}

/// From one value to another in steps, all within `over`. The first is there at once, the last stays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ramp {
    pub from: f64,
    pub to: f64,
    pub steps: u32,
    #[serde(serialize_with = "duration")]
    pub over: Duration,
}

impl Ramp {
    /// The value of a step, counted from 0, and when it comes after the first.
    #[must_use]
    pub fn step(&self, step: u32) -> (f64, Duration) {
        let last = self.steps.saturating_sub(1).max(1);
        let part = f64::from(step.min(last)) / f64::from(last);
        (self.from + (self.to - self.from) * part, self.over.mul_f64(part))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskAmount {
    /// So much of it is used then, 0 to 100.
    Percent(f64),
    /// So much is taken, in bytes.
    Size(u64),
    /// So much is left, in bytes.
    LeaveFree(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryAmount {
    Size(u64),
    /// Of the node's limit, 0 to 100.
    Percent(f64),
}

/// What is done to a file of a node.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// This is all that is in it.
    Content(Template),
    /// This follows what is in it.
    Append(Template),
    /// Every match of a regular expression becomes this; `$1` is a group of it.
    Replace { pattern: String, with: Template },
}

/// An HTTP request, with addresses that the runner dials.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    pub method: String,
    pub url: Template,
    pub headers: IndexMap<String, Template>,
    pub body: Option<Template>,
    /// Of the answer; any status below 400 unless given.
    pub expect: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    Sigkill,
    Sigterm,
    Sigint,
    Sigquit,
    Sigabrt,
    Sigsegv,
    Sighup,
}

impl LinkKind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::PacketLoss => "packet_loss",
            Self::Duplicate => "duplicate",
            Self::Corrupt => "corrupt",
            Self::Reorder => "reorder",
            Self::Bandwidth => "bandwidth",
            Self::ConnectionReset => "connection_reset",
        }
    }
}

impl Split {
    /// Whom it is about: what is chosen first.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        match self {
            Self::Isolate { target, .. }
            | Self::Halves(target)
            | Self::Bridge(target)
            | Self::MajoritiesRing(target)
            | Self::MinorityThird(target) => std::slice::from_ref(target),
            Self::Groups(groups) => groups,
        }
    }
}

impl Fault {
    /// As in scenario files.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NodeKill { .. } => "node_kill",
            Self::NodeStop { .. } => "node_stop",
            Self::NodeRestart { .. } => "node_restart",
            Self::NodePause { .. } => "node_pause",
            Self::CrashLoop { .. } => "crash_loop",
            Self::Link(fault) => fault.kind.name(),
            Self::NetworkPartition(_) => "network_partition",
            Self::DiskPressure { .. } => "disk_pressure",
            Self::DiskSlow { .. } => "disk_slow",
            Self::DiskError { .. } => "disk_error",
            Self::LostUnsyncedWrites { .. } => "lost_unsynced_writes",
            Self::ClockSkew { .. } => "clock_skew",
            Self::ClockRate { .. } => "clock_rate",
            Self::CpuStress { .. } => "cpu_stress",
            Self::MemoryStress { .. } => "memory_stress",
            Self::ConfigChange { .. } => "config_change",
            Self::EnvChange { .. } => "env_change",
            Self::ProcessArgs { .. } => "process_args",
            Self::Exec { .. } => "exec",
            Self::Http { .. } => "http",
        }
    }

    /// The nodes it is done to; of links the ones that are chosen first. Several only of groups.
    #[must_use]
    pub fn targets(&self) -> Vec<&Target> {
        match self {
            Self::NodeKill { target, .. }
            | Self::NodeStop { target, .. }
            | Self::NodeRestart { target, .. }
            | Self::NodePause { target }
            | Self::CrashLoop { target, .. }
            | Self::DiskPressure { target, .. }
            | Self::DiskSlow { target, .. }
            | Self::DiskError { target, .. }
            | Self::LostUnsyncedWrites { target }
            | Self::ClockSkew { target, .. }
            | Self::ClockRate { target, .. }
            | Self::CpuStress { target, .. }
            | Self::MemoryStress { target, .. }
            | Self::ConfigChange { target, .. }
            | Self::EnvChange { target, .. }
            | Self::ProcessArgs { target, .. }
            | Self::Exec { target, .. }
            | Self::Http { target, .. } => vec![target],
            Self::Link(fault) => fault.to.iter().chain(&fault.from).take(1).collect(),
            Self::NetworkPartition(partition) => partition.split.targets().iter().collect(),
        }
    }
}
