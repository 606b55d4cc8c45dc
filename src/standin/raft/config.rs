//! What a host is told: who it is, where it keeps its log, which groups it serves.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::standin::log::Log;

/// The state that a group replicates. Lives on the host's thread.
pub trait Machine: Any + Send {
    /// Applies one committed entry and answers the proposer. Must be a function of the state and the entry alone.
    fn apply(&mut self, index: u64, entry: &[u8]) -> Vec<u8>;

    /// The whole state.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the whole state.
    ///
    /// # Errors
    /// When the bytes are not a snapshot of this machine; the host stops then.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}

/// The clock of consensus.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Real TiKV: 1 s.
    pub tick: Duration,
    /// Ticks without a leader before an election, drawn from `election_ticks..2 * election_ticks`. Real TiKV: 10.
    pub election_ticks: usize,
    /// Ticks between heartbeats. Real TiKV: 2.
    pub heartbeat_ticks: usize,
}

impl Timing {
    /// TiKV's numbers with a tick of its 1 s times `scale`.
    #[must_use]
    pub fn scaled(scale: f64) -> Self {
        Self { tick: Duration::from_secs_f64(scale.clamp(0.001, 10.0)), election_ticks: 10, heartbeat_ticks: 2 }
    }

    /// The shortest election time-out; a leader without a quorum steps down within two of them.
    #[must_use]
    pub fn election(&self) -> Duration {
        self.tick.saturating_mul(u32::try_from(self.election_ticks).unwrap_or(u32::MAX))
    }
}

/// What happens on a host besides its answers, for metrics and log lines. Called from the host's threads: be quick.
pub trait Observer: Send + Sync {
    /// A batch reached the disk.
    fn appended(&self, _took: Duration, _bytes: usize) {}
    /// Committed entries of one group were applied.
    fn applied(&self, _took: Duration, _entries: usize) {}
    /// A message of this type (`append`, `vote`, `heartbeat` ...) was handed to the link, or dropped.
    fn message(&self, _kind: &'static str, _accepted: bool) {}
    /// A message to this host was lost.
    fn unreachable(&self, _host: u64) {}
    /// Our link to a host stands.
    fn connected(&self, _host: u64, _address: &str, _tries: u32) {}
    /// Our link to a host broke, or could not be made (told once until it stands again).
    fn disconnected(&self, _host: u64, _address: &str, _why: &str) {}
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

pub struct HostConfig {
    /// The store's or member's id, not 0.
    pub id: u64,
    /// Where log and snapshots are kept; made when missing, locked while the host runs.
    pub dir: PathBuf,
    /// Bound by the caller, so that the caller says what a taken port means.
    pub listener: TcpListener,
    /// Every host of the cluster, this one too, with its advertised `host:port`. Must be equal on all of them.
    pub peers: BTreeMap<u64, String>,
    /// What this host tells every other at greeting, at most 64 KiB: where its clients find it, say. See `Handle::note`.
    pub note: String,
    pub timing: Timing,
    /// The log on disk is compacted when it exceeds this many bytes (or the state's size, if that is more).
    pub log_limit: u64,
    pub log: Log,
    pub observer: Arc<dyn Observer>,
}

/// 16 MiB: [`HostConfig::log_limit`] where nothing else is wanted.
pub const LOG_LIMIT: u64 = 16 << 20;

pub struct GroupConfig {
    /// Region id; equal on all hosts.
    pub id: u64,
    /// Peer id -> host id. Peer ids are unique within the group.
    pub peers: BTreeMap<u64, u64>,
    /// The host that campaigns at once when the group is new, so that nobody waits for an election time-out.
    pub first_leader: u64,
    pub machine: Box<dyn Machine>,
}
