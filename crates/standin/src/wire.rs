//! Messages between stores and PD: JSON over HTTP on PD's client port, below `/standin/`. Real TiKV uses gRPC for this; only the stand-ins
//! read it.

use serde::{Deserialize, Serialize};

/// `POST /standin/store-heartbeat`: sent by each store every (scaled) 10 s, and once at start. PD registers a store at its first one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreHeartbeat {
    pub id: u64,
    /// Advertised client address, `host:port`.
    pub address: String,
    pub status_address: String,
    pub version: String,
    /// Start of the store's process in Unix seconds.
    pub start_timestamp: i64,
    pub deploy_path: String,
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Capacity in bytes.
    pub capacity: u64,
    pub available: u64,
    pub used: u64,
    pub leader_count: u64,
    pub region_count: u64,
    pub is_busy: bool,
    /// Slow score from 1 (healthy) to 100.
    pub slow_score: u64,
}

/// Label of a store, from `--labels key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub key: String,
    pub value: String,
}

/// `POST /standin/region-heartbeats`: the regions led by this store. Sent every (scaled) 60 s, whenever leadership changes, and in between
/// when PD requested a change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegionHeartbeats {
    pub store_id: u64,
    pub regions: Vec<RegionHeartbeat>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegionHeartbeat {
    pub region_id: u64,
    /// First key in upper-case hex; empty means unbounded.
    pub start_key: String,
    pub end_key: String,
    pub conf_ver: u64,
    pub version: u64,
    pub term: u64,
    pub peers: Vec<Peer>,
    pub leader: Peer,
    /// Silent peers, with the seconds of silence.
    pub down_peers: Vec<(Peer, u64)>,
    /// Peers that lag behind the log.
    pub pending_peers: Vec<Peer>,
    /// Size in MiB.
    pub approximate_size: u64,
    pub approximate_keys: u64,
    /// Bytes written since the previous heartbeat.
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

/// Answer to both kinds of heartbeats (200, JSON): orders for the store. An order is repeated in every answer until a region heartbeat
/// shows another leader or the operator times out, so a store may drop one that it cannot execute at once. Both heartbeats may be repeated
/// safely. Any other status (503 while PD elects, 500 while its leader changes) means: try again, on another member.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Orders {
    pub transfer_leader: Vec<TransferLeader>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransferLeader {
    pub region_id: u64,
    pub to: Peer,
}
