//! Control of the effects of faults on a cluster: links, disks, clocks, processors, definitions. A container engine has no operations for
//! them.
//!
//! Each value is a *desired state*, applied as a whole: setting it again changes nothing, setting a smaller state heals. Several faults on
//! one object are therefore combined into one state, and no fault undoes the work of another. The state in force can be read back, and its
//! effects can be measured by probes of chaosrun.

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

/// One direction of a link: data that `from` sends to `to`, whichever of the two opened the connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPath {
    pub from: String,
    pub to: String,
    /// Restricts the path to connections opened to the port of this name, on either end. `None` = all connections to ports that no other
    /// path of the pair names.
    pub port: Option<String>,
    pub cut: Option<CutMode>,
    pub shape: Shape,
}

/// Treatment of packets, or of bytes if a backend sees no packets. Shares are 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// Delay of each packet.
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub delay: Duration,
    /// Spread around `delay`: half of the width if uniform, the standard deviation if normal, the scale if pareto.
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub jitter: Duration,
    #[serde(skip_serializing_if = "Distribution::is_uniform")]
    pub distribution: Distribution,
    /// Correlation of a delay with the previous one.
    #[serde(skip_serializing_if = "is_nothing")]
    pub correlation: f64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub loss: f64,
    /// Probability that a packet has the same fate as the previous one.
    #[serde(skip_serializing_if = "is_nothing")]
    pub loss_correlation: f64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub duplicate: f64,
    /// Share of packets in which one bit is flipped.
    #[serde(skip_serializing_if = "is_nothing")]
    pub corrupt: f64,
    /// Share of packets that are held back by `reorder_by`, so that later ones overtake them.
    #[serde(skip_serializing_if = "is_nothing")]
    pub reorder: f64,
    #[serde(with = "spoken", skip_serializing_if = "Duration::is_zero")]
    pub reorder_by: Duration,
    /// Bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Share of the connections that are reset by the first data they carry.
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
    /// Returns true if the shape changes nothing.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self { distribution: self.distribution, ..Self::default() }
    }

    /// Combines two shapes: delays add up, shares are those of independent events, the smaller rate counts.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let either = |one: f64, other: f64| 1.0 - (1.0 - one) * (1.0 - other);
        // For properties with a single value, the shape with the wider jitter counts.
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

/// Active path, as it was read back.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkState {
    pub path: LinkPath,
    /// Counters; `None` if the backend does not count.
    pub counted: Option<LinkCounters>,
}

/// Counters since the path came into force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Packets that arrived at the path (reads of connections, if a backend sees no packets), and their bytes.
    pub packets: u64,
    pub bytes: u64,
    /// Packets dropped by a cut or by loss.
    pub dropped: u64,
    /// Packets held back by a delay or a rate.
    pub delayed: u64,
    pub duplicated: u64,
    pub corrupted: u64,
    pub reordered: u64,
    pub reset: u64,
}

/// Result of pings between two nodes. Probes of chaosrun send the pings in place of the nodes: data that `from` sends passes the path to
/// `to`, and the answer passes the path back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pings {
    pub sent: u32,
    /// Round trips of the answered pings, in the order of the answers.
    pub answered: Vec<Duration>,
    /// Number of answers that arrived more than once.
    pub duplicates: u32,
    /// Number of answers that arrived before the answer to an earlier ping.
    pub reordered: u32,
}

/// Parameters of pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinging {
    pub count: u32,
    /// Interval between pings; they are sent without waiting for answers.
    pub every: Duration,
    /// Time to wait for answers after the last ping.
    pub timeout: Duration,
}

/// Usage in bytes of a node's disk: the volume of its data directory, or the limit of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    pub size: u64,
    pub used: u64,
    /// Bytes that the node may still write.
    pub free: u64,
}

/// Space that a fault takes from a node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballast {
    /// Name of the file in the data directory, which an agent can find.
    pub name: String,
    pub bytes: u64,
    /// True for a file without a name, which cannot be found: its space is freed when the process that holds it ends.
    pub hidden: bool,
}

/// Effect of the disk layer under a node's data directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DiskFault {
    /// Delay of each read. The next two fields are the delays of each write and of each sync.
    pub read_delay: Duration,
    pub write_delay: Duration,
    pub sync_delay: Duration,
    /// Share of the named operations that fail, 0 to 1.
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

/// Counters of the disk layer since the node was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounters {
    pub reads: u64,
    pub writes: u64,
    pub syncs: u64,
    pub delayed: u64,
    pub failed: u64,
    /// Number of bytes that were written but not synced, and that losses of unsynced writes have removed.
    pub lost: u64,
}

/// Clock of a node: `offset` from the real clock, and its speed since it was set (1 = real time).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NodeClock {
    /// Offset in microseconds.
    pub offset_us: i64,
    pub rate: f64,
}

/// Clock of a node, as its processes read it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockReading {
    /// Offset that a process of the node sees now, from the real clock, in microseconds.
    pub offset_us: i64,
    /// Number of clock reads of the node's processes since the clock was set.
    pub reads: u64,
}

/// Load that a fault adds within the resource limits of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stress {
    /// Number of busy processors, each for `percent` (0 to 100) of the time. If a node has no limits of its own, the node stands still for
    /// `percent` of the time instead.
    pub cores: f64,
    pub percent: f64,
    /// Bytes of memory held.
    pub memory: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StressReading {
    /// True if the load exists and runs.
    pub running: bool,
    /// Processor time used so far (or the time for which the node stood still).
    pub used: Duration,
    pub memory: u64,
}

/// Time that a short piece of work took within a node's resource limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worked {
    pub cpu: Duration,
    pub wall: Duration,
}

/// Changes of a node's definition, relative to its cluster file. They apply from the next start of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redefinition {
    /// Variables that replace those of the file; `None` = removed.
    pub env: IndexMap<String, Option<String>>,
    /// Arguments that replace those of the file (after the command).
    pub args: Option<Vec<String>>,
}

fn not_here<T>(node: &str, what: &str) -> Result<T, ClusterError> {
    Err(ClusterError::Conflict { node: node.into(), problem: format!("{what} here") })
}

/// Control of the effects of faults. Faults that a backend does not support are refused earlier; the defaults here are a safety net.
#[async_trait]
pub trait FaultControl: Send + Sync {
    /// Puts exactly these paths in force, in place of those before; no paths = all links are healed. Every random choice about packets
    /// comes from `seed`.
    async fn set_links(&self, paths: &[LinkPath], seed: u64) -> Result<(), ClusterError> {
        let _ = seed;
        match paths.first() {
            None => Ok(()),
            Some(path) => not_here(&path.to, "has links that cannot be changed"),
        }
    }

    /// Reads back the paths in force.
    async fn links(&self) -> Result<Vec<LinkState>, ClusterError> {
        Ok(Vec::new())
    }

    /// Connects to the first port of `to` on the same route as `from`: returns the time until the connection was made, or the failure in
    /// words.
    async fn reaches(&self, from: &str, to: &str, timeout: Duration) -> Result<Duration, String> {
        Err(format!("{from} cannot be made to dial {to} within {timeout:?} here"))
    }

    /// Measures round trips between two nodes. With `port`, the pings are treated like connections to this port of `to`.
    async fn ping(&self, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        let _ = how;
        Err(format!("{from} cannot be made to ping {to} {} here", port.unwrap_or_default()))
    }

    /// Measures the bytes per second that arrive at `to` when `from` sends as fast as possible for `during`.
    async fn throughput(&self, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        let _ = during;
        Err(format!("{from} cannot be made to send to {to} {} here", port.unwrap_or_default()))
    }

    async fn disk(&self, node: &str) -> Result<DiskUse, ClusterError> {
        not_here(node, "has no disk of its own")
    }

    /// Takes this much of the node's disk, in place of the previous ballast of that name; zero bytes = the space is freed. Returns the
    /// resulting size of the ballast, which is smaller than requested if the disk is full.
    async fn fill(&self, node: &str, ballast: &Ballast) -> Result<u64, ClusterError> {
        let _ = ballast;
        not_here(node, "has no disk of its own")
    }

    /// Returns the present size of the ballast of that name: 0 if it was removed by something else.
    async fn ballast(&self, node: &str, name: &str) -> Result<u64, ClusterError> {
        let _ = name;
        not_here(node, "has no disk of its own")
    }

    /// Sets the state of the disk layer under the node's data; `None` = all operations pass through.
    async fn set_disk(&self, node: &str, fault: Option<&DiskFault>) -> Result<(), ClusterError> {
        let _ = fault;
        not_here(node, "has no layer under its data")
    }

    /// Removes all data that was written and not synced. The node's processes must be dead. Returns the number of removed bytes.
    async fn lose_unsynced(&self, node: &str) -> Result<u64, ClusterError> {
        not_here(node, "has no layer under its data")
    }

    async fn disk_counters(&self, node: &str) -> Result<DiskCounters, ClusterError> {
        not_here(node, "has no layer under its data")
    }

    /// Writes and syncs a small file beside the node's data. Returns the duration, or the failure in words.
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

    /// Sets the load; `None` = the load ends.
    async fn set_stress(&self, node: &str, stress: Option<Stress>) -> Result<(), ClusterError> {
        let _ = stress;
        not_here(node, "has no limits to be kept busy in")
    }

    async fn stress(&self, node: &str) -> Result<StressReading, ClusterError> {
        not_here(node, "has no limits to be kept busy in")
    }

    /// Measures some milliseconds of work within the node's limits.
    async fn work(&self, node: &str) -> Result<Worked, ClusterError> {
        not_here(node, "has no limits to work in")
    }

    /// Reads a file below the node's directory.
    async fn read_file(&self, node: &str, name: &str) -> Result<Vec<u8>, ClusterError> {
        let _ = name;
        not_here(node, "has no files that can be read")
    }

    async fn write_file(&self, node: &str, name: &str, content: &[u8]) -> Result<(), ClusterError> {
        let _ = (name, content);
        not_here(node, "has no files that can be written")
    }

    /// Changes the definition of a node; `None` = as in its file. Takes effect at the next start of the node.
    async fn redefine(&self, node: &str, definition: Option<&Redefinition>) -> Result<(), ClusterError> {
        let _ = definition;
        not_here(node, "cannot be defined anew")
    }

    /// Returns the arguments (after the command) and the environment with which the node is started. They come from the cluster file and
    /// its changes.
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
