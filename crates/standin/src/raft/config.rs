//! Configuration of a host: its identity, its directory, and its groups.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::log::NodeLog;

/// State machine that a group replicates. Lives on the host's thread.
pub trait StateMachine: Any + Send {
    /// Applies one committed entry and returns the answer for the proposer. Must depend on the state and the entry only.
    fn apply(&mut self, index: u64, entry: &[u8]) -> Vec<u8>;

    /// Serialises the whole state.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the whole state.
    ///
    /// # Errors
    /// The bytes are no snapshot of this machine; the host then stops.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}

/// Timing of the consensus.
#[derive(Debug, Clone, Copy)]
pub struct RaftTiming {
    /// Length of a tick. Real TiKV: 1 s.
    pub tick: Duration,
    /// Ticks without a leader before an election, drawn from `election_ticks..2 * election_ticks`. Real TiKV: 10.
    pub election_ticks: usize,
    /// Ticks between heartbeats. Real TiKV: 2.
    pub heartbeat_ticks: usize,
}

impl RaftTiming {
    /// TiKV's numbers with a tick of 1 s times `scale`.
    #[must_use]
    pub fn scaled(scale: f64) -> Self {
        Self { tick: Duration::from_secs_f64(scale.clamp(0.001, 10.0)), election_ticks: 10, heartbeat_ticks: 2 }
    }

    /// Shortest election time-out. A leader without a quorum steps down within two of them.
    #[must_use]
    pub fn election(&self) -> Duration {
        self.tick.saturating_mul(u32::try_from(self.election_ticks).unwrap_or(u32::MAX))
    }
}

/// Observer of a host, for metrics and log lines. Called from the host's threads, so it must be quick.
pub trait HostObserver: Send + Sync {
    /// A batch was written to disk.
    fn appended(&self, _took: Duration, _bytes: usize) {}
    /// Committed entries of one group were applied.
    fn applied(&self, _took: Duration, _entries: usize) {}
    /// A message of this type (`append`, `vote`, `heartbeat` ...) was passed to the link, or dropped.
    fn message(&self, _kind: &'static str, _accepted: bool) {}
    /// A message to this host was lost.
    fn unreachable(&self, _host: u64) {}
    /// The link to a host was established.
    fn connected(&self, _host: u64, _address: &str, _tries: u32) {}
    /// The link to a host broke, or could not be established (reported once until it is established again).
    fn disconnected(&self, _host: u64, _address: &str, _why: &str) {}
}

/// Observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl HostObserver for Unobserved {}

pub struct HostConfig {
    /// Id of the store or member, not 0.
    pub id: u64,
    /// Directory of log and snapshots; created when missing, locked while the host runs.
    pub dir: PathBuf,
    /// Listener bound by the caller, which handles a port that is in use.
    pub listener: TcpListener,
    /// All hosts of the cluster, including this one, with their advertised `host:port`. Must be equal on all of them.
    pub peers: BTreeMap<u64, String>,
    /// Text that this host sends to every other one in its greeting, at most 64 KiB, such as the address for its clients. See
    /// `Handle::note`.
    pub note: String,
    pub timing: RaftTiming,
    /// Size in bytes above which the log on disk is compacted. If the state is larger, the size of the state is used instead.
    pub log_limit: u64,
    pub log: NodeLog,
    pub observer: Arc<dyn HostObserver>,
}

/// Default of [`HostConfig::log_limit`]: 16 MiB.
pub(crate) const LOG_LIMIT: u64 = 16 << 20;

pub struct GroupConfig {
    /// Region id, equal on all hosts.
    pub id: u64,
    /// Host ids by peer id. Peer ids are unique within the group.
    pub peers: BTreeMap<u64, u64>,
    /// Host that campaigns at once when the group is new, so that there is no wait for an election time-out.
    pub first_leader: u64,
    pub machine: Box<dyn StateMachine>,
}
