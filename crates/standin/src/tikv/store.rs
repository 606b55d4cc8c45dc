//! State that the parts of a store share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::args::StoreSettings;
use super::disk::DiskUsage;
use super::http::StatusClient;
use super::layout::{Layout, Region};
use super::metrics::{StoreGauges, StoreMetrics};
use super::slow::SlowScore;
use crate::log::NodeLog;
use crate::raft::{GroupStatus, Handle, HostObserver};

/// TiKV release whose interfaces the stand-in imitates.
pub const VERSION: &str = "8.5.7";
/// Commit hash of the imitated TiKV release.
pub(crate) const GIT_HASH: &str = "d2d017e";

/// Traffic of one region since the last heartbeat of the region.
#[derive(Debug, Default)]
pub struct Traffic {
    pub read_keys: AtomicU64,
    pub read_bytes: AtomicU64,
    pub written_keys: AtomicU64,
    pub written_bytes: AtomicU64,
}

/// Running TiKV store, shared by the tasks of the process.
pub struct Store {
    pub settings: StoreSettings,
    pub layout: Layout,
    pub regions: BTreeMap<u64, Region>,
    pub raft: Handle,
    pub metrics: Arc<StoreMetrics>,
    pub slow: Arc<SlowScore>,
    pub usage: watch::Receiver<DiskUsage>,
    pub traffic: BTreeMap<u64, Traffic>,
    pub client: StatusClient,
    pub log: NodeLog,
    /// Start time of the store in Unix seconds.
    pub started: i64,
}

impl Store {
    /// Returns true while the store refuses writes because of missing disk space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.usage.borrow().available == 0 || self.raft.disk_full()
    }

    pub fn count_read(&self, region: u64, bytes: usize) {
        if let Some(traffic) = self.traffic.get(&region) {
            traffic.read_keys.fetch_add(1, Ordering::Relaxed);
            traffic.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    pub fn count_write(&self, region: u64, bytes: usize) {
        if let Some(traffic) = self.traffic.get(&region) {
            traffic.written_keys.fetch_add(1, Ordering::Relaxed);
            traffic.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Transfers the leadership of a region that this store leads to another store.
    pub fn transfer(&self, region: &GroupStatus, to_store: u64) {
        let Some((to, _)) = region.peers.iter().find(|(_, peer)| peer.host == to_store) else { return };
        let peer = format!("id: {to} store_id: {to_store}");
        self.log.info("transfer leader", &[("region_id", &region.group), ("peer_id", &region.peer), ("peer", &peer)]);
        self.metrics.proposals.add(&["transfer_leader"]);
        self.metrics.admin.add(&["transfer_leader", "all"]);
        self.raft.transfer_leader(region.group, to_store);
    }

    /// Returns the current values of the gauges in the metrics.
    #[must_use]
    pub fn now(&self) -> StoreGauges {
        let statuses = self.raft.statuses();
        let usage = *self.usage.borrow();
        let count = |wanted: &dyn Fn(&GroupStatus) -> bool| statuses.iter().filter(|status| wanted(status)).count() as u64;
        StoreGauges {
            regions: statuses.len() as u64,
            leaders: count(&|status| status.is_leader()),
            leader_missing: count(&|status| status.leader_peer.is_none()),
            sizes: vec![
                ("capacity", usage.capacity),
                ("available", usage.available),
                ("used", usage.used),
                ("raft_size", usage.log),
                ("kv_size", usage.used - usage.log),
            ],
            slow_score: self.slow.value(),
            version: VERSION.to_owned(),
            hash: GIT_HASH.to_owned(),
            started: self.started,
        }
    }
}

/// Observer of the Raft host that updates metrics and writes log lines.
pub(crate) struct Watcher {
    pub store_id: u64,
    pub metrics: Arc<StoreMetrics>,
    pub slow: Arc<SlowScore>,
    pub log: NodeLog,
}

impl HostObserver for Watcher {
    fn appended(&self, took: Duration, _bytes: usize) {
        self.metrics.append.observe(took);
        self.slow.observe(took);
    }

    fn applied(&self, took: Duration, _entries: usize) {
        self.metrics.apply.observe(took);
    }

    fn message(&self, kind: &'static str, accepted: bool) {
        self.metrics.sent.add(&[kind, if accepted { "accept" } else { "drop" }]);
    }

    fn unreachable(&self, host: u64) {
        self.metrics.failures.add(&["unreachable", &host.to_string()]);
    }

    fn connected(&self, host: u64, address: &str, tries: u32) {
        self.log.info("connection established", &[("store_id", &host), ("addr", &address), ("try_count", &tries)]);
    }

    fn disconnected(&self, host: u64, address: &str, why: &str) {
        let error = format!("Some({why})");
        self.log.warn("connection aborted", &[("store_id", &host), ("receiver_err", &error), ("addr", &address)]);
        self.log.warn("connection abort", &[("store_id", &host), ("addr", &address)]);
        self.log.info("broadcasting unreachable", &[("store_id", &self.store_id), ("unreachable_store_id", &host)]);
    }
}
