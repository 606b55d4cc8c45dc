//! Configuration of a Raft host: its identity, its directory and its groups.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::log::NodeLog;

/// State machine that a Raft group replicates. The host's thread calls all its methods.
pub trait StateMachine: Any + Send {
    /// Applies one committed entry and returns the answer for the proposer. The result must depend on the state and the entry only.
    fn apply(&mut self, index: u64, entry: &[u8]) -> Vec<u8>;

    /// Serialises the whole state of the machine.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the whole state of the machine by the state in `snapshot`.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a snapshot of this machine. The host then stops.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}

/// Timing of the Raft groups of a host.
#[derive(Debug, Clone, Copy)]
pub struct RaftTiming {
    /// Length of a tick. Real TiKV uses 1 s.
    pub tick: Duration,
    /// Number of ticks without a leader before an election, drawn from `election_ticks..2 * election_ticks`. Real TiKV uses 10.
    pub election_ticks: usize,
    /// Number of ticks between two heartbeats. Real TiKV uses 2.
    pub heartbeat_ticks: usize,
}

impl RaftTiming {
    /// Creates TiKV's timing with a tick of 1 s, multiplied by `scale`.
    #[must_use]
    pub fn scaled(scale: f64) -> Self {
        Self { tick: Duration::from_secs_f64(scale.clamp(0.001, 10.0)), election_ticks: 10, heartbeat_ticks: 2 }
    }

    /// Returns the shortest election timeout. A leader without a quorum steps down within two election timeouts.
    #[must_use]
    pub fn election(&self) -> Duration {
        self.tick.saturating_mul(u32::try_from(self.election_ticks).unwrap_or(u32::MAX))
    }
}

/// Observer of a Raft host, for metrics and log lines. The host's threads call the observer, so each method must return quickly.
pub trait HostObserver: Send + Sync {
    /// Reports that a batch of entries was written to disk.
    fn appended(&self, _took: Duration, _bytes: usize) {}
    /// Reports that committed entries of one group were applied.
    fn applied(&self, _took: Duration, _entries: usize) {}
    /// Reports that a message of this type (`append`, `vote`, `heartbeat` ...) was passed to the link, or was dropped if `accepted` is
    /// false.
    fn message(&self, _kind: &'static str, _accepted: bool) {}
    /// Reports that a message to this host was lost.
    fn unreachable(&self, _host: u64) {}
    /// Reports that the link to a host was established.
    fn connected(&self, _host: u64, _address: &str, _tries: u32) {}
    /// Reports that the link to a host broke or could not be established. Repeated failures are reported once.
    fn disconnected(&self, _host: u64, _address: &str, _why: &str) {}
}

/// Observer that ignores all reports.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unobserved;

impl HostObserver for Unobserved {}

pub struct HostConfig {
    /// Id of the store or the PD member that this host belongs to; never 0.
    pub id: u64,
    /// Directory of the log and the snapshots. The host creates a missing directory, and locks the directory while the host runs.
    pub dir: PathBuf,
    /// Listener for other hosts. The caller binds the port and handles the error of a port that is in use.
    pub listener: TcpListener,
    /// Advertised `host:port` of all hosts of the cluster by host id, including this host. Must be equal on all hosts.
    pub peers: BTreeMap<u64, String>,
    /// Text of at most 64 KiB that this host sends to every other host in the greeting, for example its client address. See `Handle::note`.
    pub note: String,
    pub timing: RaftTiming,
    /// Size in bytes above which the log on disk is compacted. If the state is larger, the size of the state is used instead.
    pub log_limit: u64,
    pub log: NodeLog,
    pub observer: Arc<dyn HostObserver>,
}

/// Default value of [`HostConfig::log_limit`]: 16 MiB.
pub(crate) const LOG_LIMIT: u64 = 16 << 20;

pub struct GroupConfig {
    /// Id of the region or group, equal on all hosts.
    pub id: u64,
    /// Host ids by peer id. Peer ids are unique within the group.
    pub peers: BTreeMap<u64, u64>,
    /// Id of the host that campaigns at once in a new group, so that the group does not wait for an election timeout.
    pub first_leader: u64,
    pub machine: Box<dyn StateMachine>,
}
