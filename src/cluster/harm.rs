//! What faults do to a cluster, beneath the verbs of an engine: links, disks, clocks, processors, definitions.
//!
//! Everything here is a *state to be in*, put in force as a whole: to say it again changes nothing, to say less heals. So several
//! faults on one thing are one computed state, and nobody undoes another's work. What is in force can be read back, and what it
//! does can be measured by probes of ours.

use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClusterError;
pub use crate::scenario::model::CutMode;

/// One direction of a link: what `from` sends to `to`, whoever dialled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPath {
    pub from: String,
    pub to: String,
    /// Only connections that were dialled to the port of this name, of whichever end. None = all that no other path of the
    /// pair names.
    pub port: Option<String>,
    pub cut: Option<CutMode>,
    pub shape: Shape,
}

/// What happens to packets, or to bytes where a backend sees no packets. Shares are 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// Each arrives this much later.
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub delay: Duration,
    /// Around `delay`: half of the width when uniform, the standard deviation when normal, the scale when pareto.
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub jitter: Duration,
    #[serde(skip_serializing_if = "Distribution::is_uniform")]
    pub distribution: Distribution,
    /// How much of a delay the next one takes over from the one before.
    #[serde(skip_serializing_if = "is_nothing")]
    pub correlation: f64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub loss: f64,
    /// How likely the fate of the one before is the next one's.
    #[serde(skip_serializing_if = "is_nothing")]
    pub loss_correlation: f64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub duplicate: f64,
    /// One bit of them is turned.
    #[serde(skip_serializing_if = "is_nothing")]
    pub corrupt: f64,
    /// So many are held back by `reorder_by`, and later ones overtake them.
    #[serde(skip_serializing_if = "is_nothing")]
    pub reorder: f64,
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub reorder_by: Duration,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// So many of the connections are reset by the first data they carry.
    #[serde(skip_serializing_if = "is_nothing")]
    pub reset: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
fn is_nothing(share: &f64) -> bool {
    *share == 0.0
}

/// Durations as people write them, to the nanosecond.
mod spoken {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            distribution: Distribution::Uniform,
            correlation: 0.0,
            loss: 0.0,
            loss_correlation: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            reorder_by: Duration::ZERO,
            rate: None,
            reset: 0.0,
        }
    }
}

impl Shape {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self { distribution: self.distribution, ..Self::default() }
    }

    /// Both at once: delays add up, shares are those of independent events, the smaller rate counts.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let either = |one: f64, other: f64| 1.0 - (1.0 - one) * (1.0 - other);
        // Of what has one value only, that of the wider jitter counts.
        let wider = if other.jitter > self.jitter { other } else { self };
        Self {
            delay: self.delay + other.delay,
            jitter: self.jitter + other.jitter,
            distribution: wider.distribution,
            correlation: wider.correlation,
            loss: either(self.loss, other.loss),
            loss_correlation: self.loss_correlation.max(other.loss_correlation),
            duplicate: either(self.duplicate, other.duplicate),
            corrupt: either(self.corrupt, other.corrupt),
            reorder: either(self.reorder, other.reorder),
            reorder_by: self.reorder_by.max(other.reorder_by),
            rate: [self.rate, other.rate].into_iter().flatten().min(),
            reset: either(self.reset, other.reset),
        }
    }
}

/// How delays scatter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    #[default]
    Uniform,
    Normal,
    /// Mostly a little, seldom a lot.
    Pareto,
}

impl Distribution {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
    fn is_uniform(&self) -> bool {
        *self == Self::Uniform
    }
}

/// A path that is in force, as it was read back.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkState {
    pub path: LinkPath,
    /// None where the backend does not count.
    pub counted: Option<LinkCounters>,
}

/// Since the path came into force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Packets (connections' reads, where a backend sees no packets) that came to it, and their bytes.
    pub packets: u64,
    pub bytes: u64,
    /// Kept from passing by a cut or lost.
    pub dropped: u64,
    /// Held back, by a delay or a rate.
    pub delayed: u64,
    pub duplicated: u64,
    pub corrupted: u64,
    pub reordered: u64,
    pub reset: u64,
}

/// Small exchanges between two nodes, made by probes of ours in the nodes' places: what `from` sends passes the path to `to`, the
/// answer the path back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pings {
    pub sent: u32,
    /// Round trips of those that were answered, in the order of the answers.
    pub answered: Vec<Duration>,
    /// Answers that came more than once.
    pub duplicates: u32,
    /// Answers that came before that of an earlier one.
    pub reordered: u32,
}

/// How pings are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinging {
    pub count: u32,
    /// From one to the next; they do not wait for answers.
    pub every: Duration,
    /// After the last one was sent.
    pub timeout: Duration,
}

/// The disk of a node: the volume of its data directory, or what the directory may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    pub size: u64,
    pub used: u64,
    /// What the node may still write.
    pub free: u64,
}

/// Space taken from a node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballast {
    /// Of the file in the data directory: what an agent finds there.
    pub name: String,
    pub bytes: u64,
    /// A file without a name, which nobody finds: its space returns when whoever holds it ends.
    pub hidden: bool,
}

/// What the layer under a node's data directory does to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskFault {
    /// Added to each read, write and sync.
    pub read_delay: Duration,
    pub write_delay: Duration,
    pub sync_delay: Duration,
    /// So many of the operations named fail, 0 to 1.
    pub error: f64,
    pub errno: DiskErrno,
    pub operations: Vec<DiskOperation>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DiskErrno {
    #[default]
    Eio,
    Enospc,
    Erofs,
    Edquot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskOperation {
    Read,
    Write,
    Sync,
    Open,
}

/// Counted by the layer since the node was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounters {
    pub reads: u64,
    pub writes: u64,
    pub syncs: u64,
    pub delayed: u64,
    pub failed: u64,
    /// Bytes that were written and never synced, and that a loss has taken back.
    pub lost: u64,
}

/// A node's clocks: `offset` beside ours, and how fast they go from when it was set (1 = as ours).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// Microseconds.
    pub offset_us: i64,
    pub rate: f64,
}

/// What the node's processes were told by their clocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockReading {
    /// What a process of the node sees now, beside ours, in microseconds.
    pub offset_us: i64,
    /// How often the node's processes have asked since it was set.
    pub reads: u64,
}

/// Work in a node's own limits that is not the node's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stress {
    /// So many processors are kept busy, `percent` (0 to 100) of the time each. Where a node has no limits of its own the node
    /// stands still for `percent` of the time.
    pub cores: f64,
    pub percent: f64,
    /// Bytes held.
    pub memory: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StressReading {
    /// It is there, and works.
    pub running: bool,
    /// Processor time it has used (or, where the node stands still instead, for how long it has).
    pub used: Duration,
    pub memory: u64,
}

/// A short piece of work in a node's own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worked {
    pub cpu: Duration,
    pub wall: Duration,
}

/// How a node is started, as far as it differs from its cluster file. Applied at its next start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redefinition {
    /// In place of those the file says; none = left out.
    pub env: IndexMap<String, Option<String>>,
    /// In place of the file's arguments (what comes after the command).
    pub args: Option<Vec<String>>,
}

fn not_here<T>(node: &str, what: &str) -> Result<T, ClusterError> {
    Err(ClusterError::Conflict { node: node.into(), problem: format!("{what} here") })
}

/// The faults' side of a cluster. What a backend cannot do the catalogue of faults refuses before; these defaults are a net.
#[async_trait]
pub trait Harm: Send + Sync {
    /// Puts exactly these paths in force, in place of those before; none = everything is mended. Every random choice about
    /// packets comes from `seed`.
    async fn set_links(&self, paths: &[LinkPath], seed: u64) -> Result<(), ClusterError> {
        let _ = seed;
        match paths.first() {
            None => Ok(()),
            Some(path) => not_here(&path.to, "has links that cannot be changed"),
        }
    }

    /// The paths in force, read back.
    async fn links(&self) -> Result<Vec<LinkState>, ClusterError> {
        Ok(Vec::new())
    }

    /// Dials the first port of `to` as `from` would: the time until it was connected, or in words how it was not.
    async fn reaches(&self, from: &str, to: &str, timeout: Duration) -> Result<Duration, String> {
        Err(format!("{from} cannot be made to dial {to} within {timeout:?} here"))
    }

    /// Round trips between two nodes; `port` = as connections to this port of `to` fare.
    async fn ping(&self, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        let _ = how;
        Err(format!("{from} cannot be made to ping {to} {} here", port.unwrap_or_default()))
    }

    /// Bytes a second that arrive at `to` when `from` sends as fast as it can, for so long.
    async fn throughput(&self, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        let _ = during;
        Err(format!("{from} cannot be made to send to {to} {} here", port.unwrap_or_default()))
    }

    async fn disk(&self, node: &str) -> Result<DiskUse, ClusterError> {
        not_here(node, "has no disk of its own")
    }

    /// Takes so much of the node's disk, in place of what was taken under that name; no bytes = it is given back. Returns what
    /// it holds: less than asked when the disk is full.
    async fn fill(&self, node: &str, ballast: &Ballast) -> Result<u64, ClusterError> {
        let _ = ballast;
        not_here(node, "has no disk of its own")
    }

    /// What the ballast of that name holds now: 0 when somebody has removed it.
    async fn ballast(&self, node: &str, name: &str) -> Result<u64, ClusterError> {
        let _ = name;
        not_here(node, "has no disk of its own")
    }

    /// Puts the layer under the node's data in this state; none = it passes everything on.
    async fn set_disk(&self, node: &str, fault: Option<&DiskFault>) -> Result<(), ClusterError> {
        let _ = fault;
        not_here(node, "has no layer under its data")
    }

    /// Takes back everything that was written and not synced. The node's processes are dead by then.
    async fn lose_unsynced(&self, node: &str) -> Result<u64, ClusterError> {
        not_here(node, "has no layer under its data")
    }

    async fn disk_counters(&self, node: &str) -> Result<DiskCounters, ClusterError> {
        not_here(node, "has no layer under its data")
    }

    /// Writes and syncs a small file of ours beside the node's: how long it took, or how it failed, in words.
    async fn write_through(&self, node: &str) -> Result<Duration, String> {
        Err(format!("{node} has no layer under its data here"))
    }

    async fn set_clock(&self, node: &str, clock: Option<Clock>) -> Result<(), ClusterError> {
        let _ = clock;
        not_here(node, "has no clock of its own")
    }

    async fn clock(&self, node: &str) -> Result<ClockReading, ClusterError> {
        not_here(node, "has no clock of its own")
    }

    /// None = it ends.
    async fn set_stress(&self, node: &str, stress: Option<Stress>) -> Result<(), ClusterError> {
        let _ = stress;
        not_here(node, "has no limits to be kept busy in")
    }

    async fn stress(&self, node: &str) -> Result<StressReading, ClusterError> {
        not_here(node, "has no limits to be kept busy in")
    }

    /// Some milliseconds of work in the node's limits.
    async fn work(&self, node: &str) -> Result<Worked, ClusterError> {
        not_here(node, "has no limits to work in")
    }

    /// A file below the node's directory.
    async fn read_file(&self, node: &str, name: &str) -> Result<Vec<u8>, ClusterError> {
        let _ = name;
        not_here(node, "has no files that can be read")
    }

    async fn write_file(&self, node: &str, name: &str, content: &[u8]) -> Result<(), ClusterError> {
        let _ = (name, content);
        not_here(node, "has no files that can be written")
    }

    /// None = as its file says again. Takes effect when the node is started the next time.
    async fn redefine(&self, node: &str, definition: Option<&Redefinition>) -> Result<(), ClusterError> {
        let _ = definition;
        not_here(node, "cannot be defined anew")
    }

    /// The arguments the node is started with, after its command, and its environment as the cluster file and changes say.
    async fn definition(&self, node: &str) -> Result<(Vec<String>, IndexMap<String, String>), ClusterError> {
        not_here(node, "cannot be looked into")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shapes_are_one() {
        let ms = Duration::from_millis;
        let one = Shape { delay: ms(10), jitter: ms(1), loss: 0.5, rate: Some(2000), ..Shape::default() };
        let other =
            Shape { delay: ms(5), jitter: ms(2), distribution: Distribution::Normal, loss: 0.5, rate: Some(1000), ..Shape::default() };
        let both = one.and(&other);
        assert_eq!((both.delay, both.jitter, both.distribution, both.rate), (ms(15), ms(3), Distribution::Normal, Some(1000)));
        assert!((both.loss - 0.75).abs() < 1e-12);
        assert_eq!(both, Shape { distribution: Distribution::Normal, ..other.and(&one) });
        assert!(Shape::default().and(&Shape::default()).is_plain() && !one.is_plain());
        let told = serde_json::to_string(&one).unwrap();
        assert_eq!(told, r#"{"delay":"10ms","jitter":"1ms","loss":0.5,"rate":2000}"#);
        assert_eq!(serde_json::from_str::<Shape>(&told).unwrap(), one);
    }
}
