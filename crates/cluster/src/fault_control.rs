//! Control of the effects of faults on a cluster: links, disks, clocks, processors, definitions. A container engine has no operations for
//! these effects.
//!
//! Each value is a *desired state* that is applied as a whole. Setting the same state again changes nothing, and setting a smaller state
//! heals. Several faults on one object are therefore combined into one state, and no fault undoes the effect of another. The active state
//! can be read back, and probes of chaosrun can measure its effects.

use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClusterError;

/// How one direction of a link is cut, in ascending order of strictness. A new connection needs both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CutMode {
    /// Sent data waits until the link is healed.
    Stall,
    /// Sent data is lost silently (black hole).
    Drop,
    /// The sender receives an immediate refusal.
    Reject,
}

/// One direction of a link: the data that `from` sends to `to`. Either of the two nodes may have opened the connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPath {
    pub from: String,
    pub to: String,
    /// Name of the port to which the path is restricted: only connections opened to this port, on either node. `None` means all connections
    /// to ports that no other path of the pair names.
    pub port: Option<String>,
    pub cut: Option<CutMode>,
    pub shape: Shape,
}

/// Treatment of the packets of a path, or of bytes if a backend does not see packets. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// Delay that is added to each packet.
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub delay: Duration,
    /// Spread of the random delay around `delay`. The value is half of the width (uniform), the standard deviation (normal), or the scale
    /// (pareto).
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub jitter: Duration,
    #[serde(skip_serializing_if = "Distribution::is_uniform")]
    pub distribution: Distribution,
    /// Correlation of the delay of a packet with the delay of the previous packet, from 0 to 1.
    #[serde(skip_serializing_if = "is_nothing")]
    pub correlation: f64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub loss: f64,
    /// Probability that a packet is lost or delivered like the previous packet.
    #[serde(skip_serializing_if = "is_nothing")]
    pub loss_correlation: f64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub duplicate: f64,
    /// Share of packets in which one bit is flipped, from 0 to 1.
    #[serde(skip_serializing_if = "is_nothing")]
    pub corrupt: f64,
    /// Share of packets that are held back by `reorder_by`, so that later packets overtake them.
    #[serde(skip_serializing_if = "is_nothing")]
    pub reorder: f64,
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub reorder_by: Duration,
    /// Maximum rate in bytes per second; `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Share of the connections that are reset by the first data they carry, from 0 to 1.
    #[serde(skip_serializing_if = "is_nothing")]
    pub reset: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
fn is_nothing(share: &f64) -> bool {
    *share == 0.0
}

/// Serialisation of durations as text such as `150ms`, exact to the nanosecond.
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
    /// Returns true if this shape does not change the treatment of packets.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self { distribution: self.distribution, ..Self::default() }
    }

    /// Combines two shapes. Delays are added, shares are combined like independent events, and the smaller rate applies.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let either = |one: f64, other: f64| 1.0 - (1.0 - one) * (1.0 - other);
        // Properties with a single value are taken from the shape with the wider jitter.
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

/// Distribution of random delays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    #[default]
    Uniform,
    Normal,
    /// Pareto distribution: small delays are frequent, large delays are rare.
    Pareto,
}

impl Distribution {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
    fn is_uniform(&self) -> bool {
        *self == Self::Uniform
    }
}

/// State of an active path, as it was read back from the backend.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkState {
    pub path: LinkPath,
    /// Counters of the path; `None` if the backend does not count.
    pub counted: Option<LinkCounters>,
}

/// Counters of a path since its activation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Number of packets that arrived at the path, or of reads of connections if a backend does not see packets.
    pub packets: u64,
    pub bytes: u64,
    /// Number of packets that a cut or a loss has dropped.
    pub dropped: u64,
    /// Number of packets that a delay or a rate limit has held back.
    pub delayed: u64,
    pub duplicated: u64,
    pub corrupted: u64,
    pub reordered: u64,
    pub reset: u64,
}

/// Result of pings between two nodes. Probes of chaosrun send the pings in place of the nodes. The data of `from` passes the path to `to`,
/// and the answer passes the path back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pings {
    pub sent: u32,
    /// Round-trip times of the answered pings, in the order of the answers.
    pub answered: Vec<Duration>,
    /// Number of repeated answers to the same ping.
    pub duplicates: u32,
    /// Number of answers that arrived before the answer to an earlier ping.
    pub reordered: u32,
}

/// Parameters of a series of pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinging {
    pub count: u32,
    /// Interval between pings. A ping does not wait for the answer to the previous ping.
    pub every: Duration,
    /// Time to wait for answers after the last ping is sent.
    pub timeout: Duration,
}

/// Disk usage of a node in bytes. The disk is the volume of the data directory, or the limited data directory itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    pub size: u64,
    pub used: u64,
    /// Number of bytes that the node may still write.
    pub free: u64,
}

/// Ballast: a file that a fault creates to take space from the disk of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballast {
    /// Name of the ballast file in the data directory. An agent can find a visible file by this name.
    pub name: String,
    pub bytes: u64,
    /// True for a hidden ballast file, which a plain `ls` of the data directory does not show.
    pub hidden: bool,
}

/// Effect of the disk layer, a FUSE file system, under the data directory of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DiskFault {
    /// Delay that is added to each read operation.
    pub read_delay: Duration,
    pub write_delay: Duration,
    pub sync_delay: Duration,
    /// Share of the operations in `operations` that fail, from 0 to 1.
    pub error: f64,
    pub errno: DiskErrno,
    pub operations: Vec<DiskOperation>,
    /// True if every change is refused with EROFS, as on a file system that was mounted read-only.
    pub read_only: bool,
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

/// Counters of the disk layer of a node since the creation of the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounters {
    pub reads: u64,
    pub writes: u64,
    pub syncs: u64,
    pub delayed: u64,
    pub failed: u64,
    /// Total number of written but unsynced bytes that `lose_unsynced` has removed.
    pub lost: u64,
}

/// Clock of a node: an offset from the real clock, and a rate since the clock was set (1 is real time).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NodeClock {
    /// Offset from the real clock in microseconds.
    pub offset_us: i64,
    pub rate: f64,
}

/// Reading of the clock of a node, as the processes of the node see it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockReading {
    /// Current offset of the clock that a process of the node sees, from the real clock, in microseconds.
    pub offset_us: i64,
    /// Number of times that processes of the node have read the clock since it was set.
    pub reads: u64,
}

/// CPU and memory load that a fault adds within the resource limits of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stress {
    /// Number of busy CPUs. Each is busy for the share `percent` (0 to 100) of the time. If a node has no resource limits, the node is
    /// stopped for `percent` of the time instead.
    pub cores: f64,
    pub percent: f64,
    /// Amount of memory that the load occupies, in bytes.
    pub memory: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StressReading {
    /// True if the load is present and active.
    pub running: bool,
    /// CPU time that the load has used so far, or the time for which the node was stopped.
    pub used: Duration,
    pub memory: u64,
}

/// Time that a short piece of work took within the resource limits of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worked {
    pub cpu: Duration,
    pub wall: Duration,
}

/// Changes of the definition of a node, relative to the cluster file. They apply from the next start of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redefinition {
    /// Environment variables that replace the variables of the cluster file; a `None` value removes the variable.
    pub env: IndexMap<String, Option<String>>,
    /// Arguments that replace the arguments after the command in the cluster file; `None` for no change.
    pub args: Option<Vec<String>>,
}

fn not_here<T>(node: &str, what: &str) -> Result<T, ClusterError> {
    Err(ClusterError::Conflict { node: node.into(), problem: format!("{what} here") })
}

/// Control of the effects of faults on a cluster. Faults that a backend does not support are refused when files are checked. The default
/// methods return an error as a safety net.
#[async_trait]
pub trait FaultControl: Send + Sync {
    /// Replaces all active paths by `paths`; an empty list heals all links. All random choices about packets are derived from `seed`.
    async fn set_links(&self, paths: &[LinkPath], seed: u64) -> Result<(), ClusterError> {
        let _ = seed;
        match paths.first() {
            None => Ok(()),
            Some(path) => not_here(&path.to, "has links that cannot be changed"),
        }
    }

    /// Reads back the active paths.
    async fn links(&self) -> Result<Vec<LinkState>, ClusterError> {
        Ok(Vec::new())
    }

    /// Connects to the first port of `to` on the same route as `from`. Returns the time until the connection was established, or a
    /// description of the failure.
    async fn reaches(&self, from: &str, to: &str, timeout: Duration) -> Result<Duration, String> {
        Err(format!("{from} cannot be made to dial {to} within {timeout:?} here"))
    }

    /// Measures round trips between two nodes. If `port` is given, the pings are treated like connections to this port of `to`.
    async fn ping(&self, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        let _ = how;
        Err(format!("{from} cannot be made to ping {to} {} here", port.unwrap_or_default()))
    }

    /// Measures the bytes per second that arrive at `to` if `from` sends as fast as possible for the time `during`.
    async fn throughput(&self, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        let _ = during;
        Err(format!("{from} cannot be made to send to {to} {} here", port.unwrap_or_default()))
    }

    async fn disk(&self, node: &str) -> Result<DiskUse, ClusterError> {
        not_here(node, "has no disk of its own")
    }

    /// Replaces the ballast of the given name on the disk of the node; a size of zero bytes frees the space. Returns the resulting size of
    /// the ballast, which is smaller than requested if the disk is full.
    async fn fill(&self, node: &str, ballast: &Ballast) -> Result<u64, ClusterError> {
        let _ = ballast;
        not_here(node, "has no disk of its own")
    }

    /// Returns the current size of the ballast `name` in bytes; 0 if the ballast was removed.
    async fn ballast(&self, node: &str, name: &str) -> Result<u64, ClusterError> {
        let _ = name;
        not_here(node, "has no disk of its own")
    }

    /// Sets the fault of the disk layer under the data of the node; `None` lets all operations pass.
    async fn set_disk(&self, node: &str, fault: Option<&DiskFault>) -> Result<(), ClusterError> {
        let _ = fault;
        not_here(node, "has no layer under its data")
    }

    /// Removes all data that the node has written and not synced. The processes of the node must have ended. Returns the number of removed
    /// bytes.
    async fn lose_unsynced(&self, node: &str) -> Result<u64, ClusterError> {
        not_here(node, "has no layer under its data")
    }

    async fn disk_counters(&self, node: &str) -> Result<DiskCounters, ClusterError> {
        not_here(node, "has no layer under its data")
    }

    /// Writes and syncs a small file on the disk with the data of the node. Returns the duration, or a description of the failure.
    async fn write_through(&self, node: &str) -> Result<Duration, String> {
        Err(format!("{node} has no layer under its data here"))
    }

    async fn set_clock(&self, node: &str, clock: Option<NodeClock>) -> Result<(), ClusterError> {
        let _ = clock;
        not_here(node, "has no clock of its own")
    }

    async fn clock(&self, node: &str) -> Result<ClockReading, ClusterError> {
        not_here(node, "has no clock of its own")
    }

    /// Sets the load on the node; `None` ends the load.
    async fn set_stress(&self, node: &str, stress: Option<Stress>) -> Result<(), ClusterError> {
        let _ = stress;
        not_here(node, "has no limits to be kept busy in")
    }

    async fn stress(&self, node: &str) -> Result<StressReading, ClusterError> {
        not_here(node, "has no limits to be kept busy in")
    }

    /// Measures the duration of a few milliseconds of work within the resource limits of the node.
    async fn work(&self, node: &str) -> Result<Worked, ClusterError> {
        not_here(node, "has no limits to work in")
    }

    /// Reads the file `name` below the directory of the node.
    async fn read_file(&self, node: &str, name: &str) -> Result<Vec<u8>, ClusterError> {
        let _ = name;
        not_here(node, "has no files that can be read")
    }

    async fn write_file(&self, node: &str, name: &str, content: &[u8]) -> Result<(), ClusterError> {
        let _ = (name, content);
        not_here(node, "has no files that can be written")
    }

    /// Changes the definition of a node; `None` restores the definition of the cluster file. Takes effect at the next start of the node.
    async fn redefine(&self, node: &str, definition: Option<&Redefinition>) -> Result<(), ClusterError> {
        let _ = definition;
        not_here(node, "cannot be defined anew")
    }

    /// Returns the arguments after the command, and the environment, of the next start of the node. They come from the cluster file and the
    /// changes of the definition.
    async fn definition(&self, node: &str) -> Result<(Vec<String>, IndexMap<String, String>), ClusterError> {
        not_here(node, "cannot be looked into")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shapes_are_combined() {
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
