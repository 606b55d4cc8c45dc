//! Region registry of PD: the last heartbeat about each region, sent by the leader of the region.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::wire::{Peer, RegionHeartbeat};

/// Size in MiB up to which PD counts a region as empty.
const EMPTY_MIB: u64 = 1;
/// Size in MiB from which PD counts a region as oversized (`region-max-size` of a store).
const OVERSIZED_MIB: u64 = 384;
const OVERSIZED_KEYS: u64 = 3_840_000;
/// Size in MiB up to which PD may count a region as undersized (`max-merge-region-size`).
const UNDERSIZED_MIB: u64 = 54;
const UNDERSIZED_KEYS: u64 = 540_000;
/// Number of replicas of a region.
pub(crate) const MAX_REPLICAS: usize = 3;

/// Effect of a region heartbeat on the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatEffect {
    /// The heartbeat is older than the stored one and is ignored.
    Stale,
    New,
    /// The leader moved from one store to another.
    Leader {
        from: u64,
        to: u64,
    },
    Same,
}

#[derive(Debug, Clone, Default)]
pub struct Regions {
    by_id: BTreeMap<u64, RegionHeartbeat>,
}

impl Regions {
    /// Stores the heartbeat about a region, unless the registry has a newer heartbeat.
    pub fn put(&mut self, new: RegionHeartbeat) -> HeartbeatEffect {
        let change = match self.by_id.get(&new.region_id) {
            // A leader that is cut off from its followers continues to send heartbeats. The older term shows that they are outdated.
            Some(old) if new.version < old.version || new.conf_ver < old.conf_ver || new.term < old.term => return HeartbeatEffect::Stale,
            Some(old) if old.leader.store_id != new.leader.store_id => {
                HeartbeatEffect::Leader { from: old.leader.store_id, to: new.leader.store_id }
            }
            Some(_) => HeartbeatEffect::Same,
            None => HeartbeatEffect::New,
        };
        let overlapping: Vec<(u64, u64)> = self
            .by_id
            .values()
            .filter(|old| old.region_id != new.region_id && overlap(old, &new))
            .map(|old| (old.region_id, old.version))
            .collect();
        if overlapping.iter().any(|(_, version)| *version > new.version) {
            return HeartbeatEffect::Stale;
        }
        for (id, _) in overlapping {
            self.by_id.remove(&id);
        }
        self.by_id.insert(new.region_id, new);
        change
    }

    #[must_use]
    pub fn get(&self, id: u64) -> Option<&RegionHeartbeat> {
        self.by_id.get(&id)
    }

    /// Returns the region that contains a key. The key is in upper-case hex.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<&RegionHeartbeat> {
        self.by_id.values().find(|region| holds(region, key))
    }

    /// Returns all regions in the order of their start keys.
    #[must_use]
    pub fn sorted(&self) -> Vec<&RegionHeartbeat> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by(|a, b| a.start_key.cmp(&b.start_key));
        all
    }

    /// Returns at most `limit` regions from `key` up to `end_key`. An empty `end_key` means no upper bound.
    #[must_use]
    pub fn scan(&self, key: &str, end_key: &str, limit: usize) -> Vec<&RegionHeartbeat> {
        let in_range = |region: &&RegionHeartbeat| {
            (region.end_key.is_empty() || region.end_key.as_str() > key) && (end_key.is_empty() || region.start_key.as_str() < end_key)
        };
        self.sorted().into_iter().filter(in_range).take(limit).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &RegionHeartbeat> {
        self.by_id.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

fn holds(region: &RegionHeartbeat, key: &str) -> bool {
    region.start_key.as_str() <= key && (region.end_key.is_empty() || key < region.end_key.as_str())
}

fn overlap(a: &RegionHeartbeat, b: &RegionHeartbeat) -> bool {
    let before = |a: &RegionHeartbeat, b: &RegionHeartbeat| !a.end_key.is_empty() && a.end_key <= b.start_key;
    !before(a, b) && !before(b, a)
}

/// Kind of a peer in its region, as in the parameter of `/regions/store/{id}?type=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKind {
    All,
    Leader,
    Follower,
    Pending,
    /// Learners and witnesses. The stand-in has no such peers.
    None,
}

impl PeerKind {
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "" | "all" => Self::All,
            "leader" => Self::Leader,
            "follower" => Self::Follower,
            "pending" => Self::Pending,
            "learner" | "witness" => Self::None,
            _ => return None,
        })
    }

    #[must_use]
    pub fn matches(self, region: &RegionHeartbeat, store: u64) -> bool {
        let on = |peers: &[Peer]| peers.iter().any(|peer| peer.store_id == store);
        match self {
            Self::All => on(&region.peers),
            Self::Leader => region.leader.store_id == store,
            Self::Follower => on(&region.peers) && region.leader.store_id != store,
            Self::Pending => on(&region.pending_peers),
            Self::None => false,
        }
    }
}

/// Possible problem of a region, as listed by `/regions/check/...` and counted by the metric `pd_regions_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegionCheck {
    MissPeer,
    ExtraPeer,
    DownPeer,
    PendingPeer,
    OfflinePeer,
    LearnerPeer,
    Empty,
    Oversized,
    Undersized,
}

impl RegionCheck {
    pub const ALL: [Self; 9] = [
        Self::MissPeer,
        Self::ExtraPeer,
        Self::DownPeer,
        Self::PendingPeer,
        Self::OfflinePeer,
        Self::LearnerPeer,
        Self::Empty,
        Self::Oversized,
        Self::Undersized,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MissPeer => "miss-peer",
            Self::ExtraPeer => "extra-peer",
            Self::DownPeer => "down-peer",
            Self::PendingPeer => "pending-peer",
            Self::OfflinePeer => "offline-peer",
            Self::LearnerPeer => "learner-peer",
            Self::Empty => "empty-region",
            Self::Oversized => "oversized-region",
            Self::Undersized => "undersized-region",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|check| check.name() == name)
    }

    #[must_use]
    pub fn matches(self, region: &RegionHeartbeat) -> bool {
        let (size, keys) = (region.approximate_size, region.approximate_keys);
        match self {
            Self::MissPeer => region.peers.len() < MAX_REPLICAS,
            Self::ExtraPeer => region.peers.len() > MAX_REPLICAS,
            Self::DownPeer => !region.down_peers.is_empty(),
            Self::PendingPeer => !region.pending_peers.is_empty(),
            // Stores of the stand-in are never Offline, and all peers vote.
            Self::OfflinePeer | Self::LearnerPeer => false,
            Self::Empty => size <= EMPTY_MIB,
            Self::Oversized => size >= OVERSIZED_MIB || keys >= OVERSIZED_KEYS,
            Self::Undersized => size <= UNDERSIZED_MIB && keys <= UNDERSIZED_KEYS,
        }
    }
}

/// Region in the JSON format of PD's API.
#[derive(Debug, Serialize)]
pub(crate) struct RegionAnswer<'a> {
    id: u64,
    start_key: &'a str,
    end_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<EpochAnswer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerAnswer>,
    /// Leader of the region. The field is always present; the name is empty if the region has no leader.
    leader: PeerAnswer,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    down_peers: Vec<DownPeerAnswer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pending_peers: Vec<PeerAnswer>,
    cpu_usage: u64,
    written_bytes: u64,
    read_bytes: u64,
    written_keys: u64,
    read_keys: u64,
    approximate_size: u64,
    approximate_keys: u64,
}

/// Epoch of a region in the JSON format of PD's API. A number that is 0 is left out.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct EpochAnswer {
    #[serde(skip_serializing_if = "is_zero")]
    pub conf_ver: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub version: u64,
}

#[derive(Debug, Default, Serialize)]
struct PeerAnswer {
    role_name: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    store_id: u64,
}

#[derive(Debug, Serialize)]
struct DownPeerAnswer {
    peer: PeerAnswer,
    #[serde(skip_serializing_if = "is_zero")]
    down_seconds: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<&Peer> for PeerAnswer {
    fn from(peer: &Peer) -> Self {
        if peer.id == 0 { Self::default() } else { Self { role_name: "Voter", id: peer.id, store_id: peer.store_id } }
    }
}

impl<'a> From<&'a RegionHeartbeat> for RegionAnswer<'a> {
    fn from(region: &'a RegionHeartbeat) -> Self {
        Self {
            id: region.region_id,
            start_key: &region.start_key,
            end_key: &region.end_key,
            epoch: Some(EpochAnswer { conf_ver: region.conf_ver, version: region.version }),
            peers: region.peers.iter().map(PeerAnswer::from).collect(),
            leader: PeerAnswer::from(&region.leader),
            down_peers: region
                .down_peers
                .iter()
                .map(|(peer, seconds)| DownPeerAnswer { peer: PeerAnswer::from(peer), down_seconds: *seconds })
                .collect(),
            pending_peers: region.pending_peers.iter().map(PeerAnswer::from).collect(),
            cpu_usage: 0,
            written_bytes: region.written_bytes,
            read_bytes: region.read_bytes,
            written_keys: region.written_keys,
            read_keys: region.read_keys,
            approximate_size: region.approximate_size,
            approximate_keys: region.approximate_keys,
        }
    }
}

impl RegionAnswer<'static> {
    /// Returns the answer of PD v8.5 for an unknown region: status 200 and zeros.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            id: 0,
            start_key: "",
            end_key: "",
            epoch: None,
            peers: Vec::new(),
            leader: PeerAnswer::default(),
            down_peers: Vec::new(),
            pending_peers: Vec::new(),
            cpu_usage: 0,
            written_bytes: 0,
            read_bytes: 0,
            written_keys: 0,
            read_keys: 0,
            approximate_size: 0,
            approximate_keys: 0,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Creates a heartbeat of the region `id` with peers on the stores 1, 2 and 3. Region 44 has the peers 441, 442 and 443.
    #[must_use]
    pub fn region(id: u64, start_key: &str, end_key: &str, leader_store: u64) -> RegionHeartbeat {
        let peers: Vec<Peer> = (1..=3).map(|store_id| Peer { id: id * 10 + store_id, store_id }).collect();
        RegionHeartbeat {
            region_id: id,
            start_key: start_key.into(),
            end_key: end_key.into(),
            conf_ver: 5,
            version: 60,
            term: 7,
            leader: Peer { id: id * 10 + leader_store, store_id: leader_store },
            peers,
            down_peers: Vec::new(),
            pending_peers: Vec::new(),
            approximate_size: 92,
            approximate_keys: 871_234,
            written_bytes: 4096,
            read_bytes: 0,
            written_keys: 32,
            read_keys: 0,
        }
    }

    #[test]
    fn heartbeat_of_a_deposed_leader_is_ignored() {
        let mut regions = Regions::default();
        assert_eq!(regions.put(region(44, "", "", 1)), HeartbeatEffect::New);
        let newer = RegionHeartbeat { term: 8, ..region(44, "", "", 2) };
        assert_eq!(regions.put(newer), HeartbeatEffect::Leader { from: 1, to: 2 });
        assert_eq!(regions.put(region(44, "", "", 1)), HeartbeatEffect::Stale);
        assert_eq!(regions.get(44).unwrap().leader.store_id, 2);
    }

    #[test]
    fn split_replaces_overlapping_regions() {
        let mut regions = Regions::default();
        regions.put(region(1, "", "", 1));
        let right = RegionHeartbeat { version: 61, ..region(2, "80", "", 1) };
        assert_eq!(regions.put(right), HeartbeatEffect::New);
        assert!(regions.get(1).is_none());
        assert_eq!(regions.put(region(1, "", "", 1)), HeartbeatEffect::Stale);
        assert_eq!(regions.put(RegionHeartbeat { version: 61, ..region(1, "", "80", 1) }), HeartbeatEffect::New);
        assert_eq!(regions.by_key("7FFF").unwrap().region_id, 1);
        assert_eq!(regions.by_key("80").unwrap().region_id, 2);
        assert_eq!(regions.scan("80", "", 16).len(), 1);
        assert_eq!(regions.scan("", "80", 16).len(), 1);
        assert_eq!(regions.scan("", "", 1)[0].region_id, 1);
    }

    #[test]
    fn region_is_formatted_like_in_pd() {
        let mut heartbeat = region(44, "7480000000000000FF0A00000000000000F8", "", 1);
        heartbeat.down_peers = vec![(Peer { id: 442, store_id: 2 }, 612)];
        heartbeat.pending_peers = vec![Peer { id: 442, store_id: 2 }];
        assert_eq!(
            serde_json::to_string(&RegionAnswer::from(&heartbeat)).unwrap(),
            concat!(
                r#"{"id":44,"start_key":"7480000000000000FF0A00000000000000F8","end_key":"","epoch":{"conf_ver":5,"version":60},"#,
                r#""peers":[{"role_name":"Voter","id":441,"store_id":1},{"role_name":"Voter","id":442,"store_id":2},{"role_name":"Voter","id":443,"store_id":3}],"#,
                r#""leader":{"role_name":"Voter","id":441,"store_id":1},"#,
                r#""down_peers":[{"peer":{"role_name":"Voter","id":442,"store_id":2},"down_seconds":612}],"#,
                r#""pending_peers":[{"role_name":"Voter","id":442,"store_id":2}],"#,
                r#""cpu_usage":0,"written_bytes":4096,"read_bytes":0,"written_keys":32,"read_keys":0,"approximate_size":92,"approximate_keys":871234}"#
            )
        );
        let unknown = serde_json::to_string(&RegionAnswer::unknown()).unwrap();
        assert!(unknown.starts_with(r#"{"id":0,"start_key":"","end_key":"","leader":{"role_name":""},"cpu_usage":0"#), "{unknown}");
    }
}
