//! Messages between TiKV stores and PD of the stand-ins: JSON over HTTP on PD's client port, below `/standin/`. Real TiKV uses gRPC
//! instead.

use serde::{Deserialize, Serialize};

/// Body of `POST /standin/store-heartbeat`. Each store sends a heartbeat at start and every 10 s (scaled). PD registers a store at the
/// first heartbeat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreHeartbeat {
    pub id: u64,
    /// Client address that the store advertises, as `host:port`.
    pub address: String,
    pub status_address: String,
    pub version: String,
    /// Start time of the store's process in Unix seconds.
    pub start_timestamp: i64,
    pub deploy_path: String,
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Disk capacity of the store in bytes.
    pub capacity: u64,
    pub available: u64,
    pub used: u64,
    pub leader_count: u64,
    pub region_count: u64,
    pub is_busy: bool,
    /// Slow score of the store, from 1 (healthy) to 100.
    pub slow_score: u64,
}

/// Label of a store, from the flag `--labels key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub key: String,
    pub value: String,
}

/// Body of `POST /standin/region-heartbeats`: the regions that a store leads. Sent every 60 s (scaled), when the leadership of a region
/// changes, and after PD has requested a change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegionHeartbeats {
    pub store_id: u64,
    pub regions: Vec<RegionHeartbeat>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegionHeartbeat {
    pub region_id: u64,
    /// First key of the region in upper-case hex; empty means no lower bound.
    pub start_key: String,
    pub end_key: String,
    pub conf_ver: u64,
    pub version: u64,
    pub term: u64,
    pub peers: Vec<Peer>,
    pub leader: Peer,
    /// Silent peers, each with the duration of its silence in seconds.
    pub down_peers: Vec<(Peer, u64)>,
    /// Peers that lag behind the log of the leader.
    pub pending_peers: Vec<Peer>,
    /// Size of the region in MiB.
    pub approximate_size: u64,
    pub approximate_keys: u64,
    /// Bytes written to the region since the previous heartbeat.
    pub written_bytes: u64,
    pub read_bytes: u64,
    pub written_keys: u64,
    pub read_keys: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub id: u64,
    pub store_id: u64,
}

/// Answer of PD to a heartbeat of either kind, as JSON with status 200: orders for the store. PD repeats an order in every answer until a
/// region heartbeat shows another leader or the operator times out. A store may therefore drop an order that it cannot execute at once.
/// Heartbeats may be repeated safely. After any other status, the store repeats the heartbeat at another member (503 during an election,
/// 500 during a change of the leader).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Orders {
    pub transfer_leader: Vec<TransferLeader>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransferLeader {
    pub region_id: u64,
    pub to: Peer,
}
