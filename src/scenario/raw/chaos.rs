//! `chaos:` of a scenario: when, whom, what.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawAmount, RawDuration, RawPick, RawRamped, RawSize, Short, Text};
use crate::cluster::harm::{DiskErrno, DiskOperation, Distribution};
use crate::scenario::model::{CutMode, TriggerEvent};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "chaos")]
pub struct RawChaos {
    /// After steady state: at once unless given.
    pub at: Option<RawDuration>,
    /// In place of `at`: when something happens.
    pub on: Option<Short<RawTrigger>>,
    /// Injected more than once.
    pub repeat: Option<RawRepeat>,
    /// The fault.
    pub inject: RawFault,
    /// `agent` (may be repaired, the default), `never`, or a duration after which it passes by itself.
    pub heal: Option<Text>,
    /// A confounder: not part of the truth.
    #[serde(default)]
    pub noise: bool,
}

/// `ticket`, `command`, `healed`, or the whole map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "trigger")]
pub struct RawTrigger {
    pub event: TriggerEvent,
    /// The how many-th one: the first unless given.
    pub nth: Option<u32>,
    /// So long after it: at once unless given.
    pub plus: Option<RawDuration>,
    /// Injected so long after steady state at the latest, whatever happens: 30s unless given.
    pub latest: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "repeat")]
pub struct RawRepeat {
    /// How often in all.
    pub times: u32,
    /// From one injection to the next.
    pub every: RawDuration,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "fault")]
pub enum RawFault {
    /// A signal to the node's processes, SIGKILL unless given.
    NodeKill(RawNodeKill),
    /// SIGTERM, then SIGKILL after `grace`.
    NodeStop(RawNodeStop),
    /// Restarted again and again.
    NodeRestart(RawNodeRestart),
    /// The node's processes stand still and keep their connections.
    NodePause(RawTargetOnly),
    /// The node dies so long after each start, until the fault is healed.
    CrashLoop(RawCrashLoop),
    /// What is sent arrives later.
    Latency(RawLatency),
    /// A share of the packets is lost.
    PacketLoss(RawPacketLoss),
    /// A share of the packets arrives twice.
    Duplicate(RawDuplicate),
    /// A bit of a share of the packets is turned.
    Corrupt(RawCorrupt),
    /// A share of the packets is overtaken by later ones.
    Reorder(RawReorder),
    /// No more than so many bytes a second.
    Bandwidth(RawBandwidth),
    /// Connections are reset by the first data they carry.
    ConnectionReset(RawConnectionReset),
    /// Links between nodes are cut; the clients keep theirs. No agent can mend them: say how it ends with `heal`.
    NetworkPartition(Box<RawNetworkPartition>),
    /// The disk of the node's data is filled.
    DiskPressure(RawDiskPressure),
    /// Reads, writes and syncs of the node's data take longer.
    DiskSlow(RawDiskSlow),
    /// A share of the operations on the node's data fails.
    DiskError(RawDiskError),
    /// The node is killed, and what it wrote and did not sync is gone.
    LostUnsyncedWrites(RawTargetOnly),
    /// The wall clock of the node's processes is wrong.
    ClockSkew(RawClockSkew),
    /// The clocks of the node's processes are fast or slow.
    ClockRate(RawClockRate),
    /// Something else keeps the node's processors busy, within the node's own limits.
    CpuStress(RawCpuStress),
    /// Something else holds the node's memory, within the node's own limits.
    MemoryStress(RawMemoryStress),
    /// A file of the node is changed, and the node restarted.
    ConfigChange(RawConfigChange),
    /// Environment variables of the node are changed, and the node restarted.
    EnvChange(RawEnvChange),
    /// Arguments of the node are changed, and the node restarted.
    ProcessArgs(RawProcessArgs),
    /// A command in the node: for whatever has no fault of its own.
    Exec(RawExec),
    /// An HTTP request to the node.
    Http(RawHttpFault),
}

macro_rules! fault {
    ($(#[$about:meta])* $name:ident, $word:literal, { $($fields:tt)* }) => {
        $(#[$about])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(rename = $word)]
        pub struct $name {
            pub target: Short<RawTarget>,
            $($fields)*
        }
    };
}

fault!(RawTargetOnly, "target_only", {});
fault!(RawNodeKill, "node_kill", {
    /// `SIGKILL`, `SIGTERM`, `SIGINT`, `SIGQUIT`, `SIGABRT`, `SIGSEGV` or `SIGHUP`.
    pub signal: Option<String>,
});
fault!(RawNodeStop, "node_stop", {
    /// Between SIGTERM and SIGKILL: 10s unless given.
    pub grace: Option<RawDuration>,
});
fault!(RawNodeRestart, "node_restart", {
    /// How often: once unless given.
    pub times: Option<u32>,
    /// From the first to the second: 5s unless given.
    pub every: Option<RawDuration>,
    /// Each pause is so many times the one before: 1 unless given.
    pub backoff: Option<f64>,
    /// Between SIGTERM and SIGKILL: 10s unless given.
    pub grace: Option<RawDuration>,
});
fault!(RawCrashLoop, "crash_loop", {
    /// From a start to its death: 1s unless given.
    pub after: Option<RawDuration>,
});
fault!(RawDiskPressure, "disk_pressure", {
    /// So much of the disk is used then: 95 unless another amount is given.
    pub percent: Option<RawRamped>,
    /// So much is taken.
    pub size: Option<RawRamped>,
    /// So much is left.
    pub leave_free: Option<RawSize>,
    /// The name of the file that takes it, in the data directory: `backup.tar` unless given.
    pub file: Option<String>,
});
fault!(RawDiskSlow, "disk_slow", {
    /// Added to each read: nothing unless given.
    pub read: Option<RawDuration>,
    /// Added to each write: nothing unless given.
    pub write: Option<RawDuration>,
    /// Added to each sync: nothing unless given.
    pub sync: Option<RawDuration>,
});
fault!(RawDiskError, "disk_error", {
    /// The share of operations that fail: 100 unless given.
    pub percent: Option<RawAmount>,
    /// `EIO` unless given.
    pub errno: Option<DiskErrno>,
    /// Which: reads, writes and syncs unless given.
    #[serde(default)]
    pub operations: OneOrMany<DiskOperation>,
});
fault!(RawClockSkew, "clock_skew", {
    /// Such as `5m`, or `-30s` for one that is behind.
    pub offset: Text,
});
fault!(RawClockRate, "clock_rate", {
    /// 1 = as it should be, 2 = twice as fast.
    pub rate: f64,
});
fault!(RawCpuStress, "cpu_stress", {
    /// How many processors: 1 unless given.
    pub cores: Option<f64>,
    /// Of their time: 100 unless given.
    pub percent: Option<RawRamped>,
});
fault!(RawMemoryStress, "memory_stress", {
    pub size: Option<RawSize>,
    /// Of the node's limit.
    pub percent: Option<RawAmount>,
});
fault!(RawConfigChange, "config_change", {
    /// Below the node's directory, one of its `files`.
    pub file: String,
    /// All that is in it then: a template.
    pub content: Option<Text>,
    /// Put behind what is in it: a template.
    pub append: Option<Text>,
    /// Regular expressions, and what takes the place of their matches.
    pub replace: Option<RawReplace>,
    /// Whether the node is restarted so that it reads the file: yes unless given.
    pub restart: Option<bool>,
});
fault!(RawEnvChange, "env_change", {
    /// Names and templates; `null` takes a variable away.
    pub env: IndexMap<String, Option<Text>>,
});
fault!(RawProcessArgs, "process_args", {
    /// Put behind the others: templates.
    #[serde(default)]
    pub add: Vec<Text>,
    /// Taken away: as they stand in the cluster file, filled in.
    #[serde(default)]
    pub remove: Vec<Text>,
});
fault!(RawExec, "exec", {
    /// A program and its arguments, a template each. It must end with exit code 0.
    pub command: Vec<Text>,
    /// What takes it back, run in the node when its time is over.
    #[serde(default)]
    pub undo: Vec<Text>,
    /// A condition over the observations that shows the fault: it must become true, and false again when the fault is gone.
    pub felt: Option<Text>,
    /// What an agent could run in its shell to repair it: the oracle does.
    pub repair: Option<Text>,
});
fault!(RawHttpFault, "http_fault", {
    pub request: Short<RawRequest>,
    /// What takes it back, when its time is over.
    pub undo: Option<Short<RawRequest>>,
    /// A condition over the observations that shows the fault: it must become true, and false again when the fault is gone.
    pub felt: Option<Text>,
    /// What an agent could run in its shell to repair it: the oracle does.
    pub repair: Option<Text>,
});

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "replace")]
pub struct RawReplace {
    /// A regular expression.
    pub pattern: String,
    /// A template; `$1` is the first group.
    pub with: Text,
}

/// `http://...`, which is asked for with POST, or the whole map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "request")]
pub struct RawRequest {
    /// `POST` unless given.
    pub method: Option<String>,
    pub url: Text,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
    /// A condition over `status`, `json`, `text`: any status below 400 unless given.
    pub expect: Option<Text>,
}

/// Whom a fault of links is about.
pub struct Ends<'a> {
    pub from: Option<&'a Short<RawTarget>>,
    pub to: Option<&'a Short<RawTarget>>,
    pub ports: &'a [String],
    pub symmetric: bool,
}

macro_rules! link {
    ($name:ident, $word:literal, { $($fields:tt)* }) => {
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(rename = $word)]
        pub struct $name {
            /// Who sends: all others unless given. A role means all of it.
            pub from: Option<Short<RawTarget>>,
            /// Who receives: all others unless given. A role means all of it.
            pub to: Option<Short<RawTarget>>,
            /// Names of ports: only connections that were dialled to them.
            #[serde(default)]
            pub ports: OneOrMany<String>,
            /// The other direction too.
            #[serde(default)]
            pub symmetric: bool,
            $($fields)*
        }

        impl $name {
            pub fn ends(&self) -> Ends<'_> {
                Ends { from: self.from.as_ref(), to: self.to.as_ref(), ports: &self.ports.0, symmetric: self.symmetric }
            }
        }
    };
}

link!(RawLatency, "latency", {
    /// Of each packet, one way.
    pub delay: RawRamped,
    /// How much it scatters: nothing unless given.
    pub jitter: Option<RawDuration>,
    /// How much of a delay the next one takes over, in percent: nothing unless given.
    pub correlation: Option<RawAmount>,
    /// `uniform` unless given.
    pub distribution: Option<Distribution>,
});
link!(RawPacketLoss, "packet_loss", {
    pub percent: RawRamped,
    /// How likely the next one shares the fate of the one before, in percent: 0 unless given.
    pub correlation: Option<RawAmount>,
});
link!(RawDuplicate, "duplicate", {
    pub percent: RawAmount,
});
link!(RawCorrupt, "corrupt", {
    pub percent: RawAmount,
});
link!(RawReorder, "reorder", {
    pub percent: RawAmount,
    /// How long those are held back: 10ms unless given.
    pub delay: Option<RawDuration>,
});
link!(RawBandwidth, "bandwidth", {
    /// `10mbit`, `1MiB/s`.
    pub rate: RawRamped,
});
link!(RawConnectionReset, "connection_reset", {
    /// Of the connections: 100 unless given.
    pub percent: Option<RawAmount>,
});

/// Exactly one of `isolate`, `groups`, `halves`, `bridge`, `majorities_ring`, `minority_third`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "network_partition")]
pub struct RawNetworkPartition {
    /// These are cut from everybody else, and stay together.
    pub isolate: Option<Short<RawTarget>>,
    /// With `isolate`: whom they are cut from. A role means all of it.
    pub from: Option<Short<RawTarget>>,
    /// Each group is cut from every other. Every node is in one of them.
    pub groups: Option<Vec<Short<RawTarget>>>,
    /// These are cut into two halves.
    pub halves: Option<Short<RawTarget>>,
    /// These are cut into two halves but for one of them, which both see.
    pub bridge: Option<Short<RawTarget>>,
    /// Each of these sees a majority of them, and no two the same one.
    pub majorities_ring: Option<Short<RawTarget>>,
    /// Fewer than a third of these are cut from the rest.
    pub minority_third: Option<Short<RawTarget>>,
    /// Names of ports: only connections that were dialled to them.
    #[serde(default)]
    pub ports: OneOrMany<String>,
    /// Cut only what the others send to those that are isolated (of groups: what later ones send to earlier ones): they can
    /// speak and do not hear. Both directions unless given.
    #[serde(default)]
    pub one_way: bool,
    /// `drop` (the default) is a black hole, `reject` says at once that nobody is there, `stall` holds back what is sent
    /// until the link is mended.
    pub mode: Option<CutMode>,
}

/// Which nodes: exactly one of `name`, `role`, `all`, `select`. As a single word: a node, a `select`, or `all`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "target")]
pub struct RawTarget {
    pub name: Option<OneOrMany<String>>,
    pub role: Option<String>,
    pub all: Option<bool>,
    /// A `select` of the cluster file, asked when the fault is injected.
    pub select: Option<String>,
    /// How many of them: one of a role unless given, all of anything else. `2`, `50%`, `majority`, `minority`, `all`.
    pub pick: Option<RawPick>,
    /// Nodes that are never taken.
    #[serde(default)]
    pub except: OneOrMany<String>,
}
