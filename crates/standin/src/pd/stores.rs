//! Data of the PD leader about the stores, and the format of this data in PD's API.

use serde::{Deserialize, Serialize};

use super::durable::StoreMeta;
use super::text::{byte_size, go_duration, go_float, rfc3339};
use super::timing::{Nanos, PdTiming, nanos};
use crate::wire::{Label, StoreHeartbeat};

/// Slow score from which PD counts a store as slow.
const SLOW_SCORE: u64 = 80;
/// Share of free disk space below which PD counts a store as low on space.
const LOW_SPACE: f64 = 0.2;

/// State of a store, computed from the time since its last heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreState {
    Up,
    Disconnected,
    Down,
}

impl StoreState {
    /// Derives the state of a store from the nanoseconds since its last heartbeat.
    #[must_use]
    pub fn of(silence: i64, timing: PdTiming) -> Self {
        if silence > nanos(timing.down()) {
            Self::Down
        } else if silence > nanos(timing.disconnected()) {
            Self::Disconnected
        } else {
            Self::Up
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "Up",
            Self::Disconnected => "Disconnected",
            Self::Down => "Down",
        }
    }
}

/// States accepted by `/stores/check?state=`, in lower case. No store of the stand-in can be `offline` or `tombstone`.
pub(crate) const STATE_NAMES: [&str; 5] = ["up", "disconnected", "down", "offline", "tombstone"];

/// Statistics from the last heartbeat of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStats {
    pub last_heartbeat: Nanos,
    pub capacity: u64,
    pub available: u64,
    pub used: u64,
    pub is_busy: bool,
    pub slow_score: u64,
}

impl StoreStats {
    #[must_use]
    pub fn of(heartbeat: &StoreHeartbeat, at: Nanos) -> Self {
        Self {
            last_heartbeat: at,
            capacity: heartbeat.capacity,
            available: heartbeat.available,
            used: heartbeat.used,
            is_busy: heartbeat.is_busy,
            slow_score: heartbeat.slow_score,
        }
    }

    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.slow_score >= SLOW_SCORE
    }

    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share, not an amount")]
    pub fn is_low_on_space(&self) -> bool {
        self.capacity > 0 && (self.available as f64) < self.capacity as f64 * LOW_SPACE
    }
}

/// Load of a store: sums over all regions on the store. Sizes are in MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreLoad {
    pub leaders: u64,
    pub leader_size: u64,
    pub leader_keys: u64,
    pub regions: u64,
    pub region_size: u64,
    pub region_keys: u64,
    pub pending_peers: u64,
}

/// All data of PD about one store.
#[derive(Debug, Clone, Copy)]
pub struct StoreView<'a> {
    pub meta: &'a StoreMeta,
    /// Statistics from the last heartbeat; `None` until this leader has received a heartbeat of the store.
    pub stats: Option<&'a StoreStats>,
    pub last_heard: Nanos,
    pub load: StoreLoad,
    pub state: StoreState,
    /// Nanoseconds since the last heartbeat of the store.
    pub silence: i64,
}

/// Store in the JSON format of `/store/{id}`.
#[derive(Debug, Serialize)]
pub struct StoreAnswer<'a> {
    store: MetaAnswer<'a>,
    status: StatusAnswer,
}

/// Metadata of a store in PD's JSON format, without the field `state`. PD omits `state` for stores that are Up, Disconnected or Down.
#[derive(Debug, Serialize)]
struct MetaAnswer<'a> {
    id: u64,
    address: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'a [Label],
    version: &'a str,
    peer_address: &'a str,
    status_address: &'a str,
    start_timestamp: i64,
    deploy_path: &'a str,
    last_heartbeat: Nanos,
    node_state: u8,
    state_name: &'static str,
}

#[derive(Debug, Serialize)]
struct StatusAnswer {
    capacity: String,
    available: String,
    used_size: String,
    leader_count: u64,
    #[serde(serialize_with = "go_float")]
    leader_weight: f64,
    #[serde(serialize_with = "go_float")]
    leader_score: f64,
    leader_size: u64,
    region_count: u64,
    #[serde(serialize_with = "go_float")]
    region_weight: f64,
    #[serde(serialize_with = "go_float")]
    region_score: f64,
    region_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pending_peer_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    slow_score: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_busy: bool,
    start_ts: String,
    last_heartbeat_ts: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'a> From<StoreView<'a>> for StoreAnswer<'a> {
    #[expect(clippy::cast_precision_loss, reason = "scores are small numbers")]
    fn from(view: StoreView<'a>) -> Self {
        let StoreView { meta, stats, last_heard, load, state, .. } = view;
        let started = meta.start_timestamp.saturating_mul(1_000_000_000);
        let size = |of: fn(&StoreStats) -> u64| byte_size(stats.map_or(0, of));
        Self {
            store: MetaAnswer {
                id: meta.id,
                address: &meta.address,
                labels: &meta.labels,
                version: &meta.version,
                peer_address: &meta.address,
                status_address: &meta.status_address,
                start_timestamp: meta.start_timestamp,
                deploy_path: &meta.deploy_path,
                last_heartbeat: last_heard,
                // The state Serving: a store of the stand-in joins with its data in place.
                node_state: 1,
                state_name: state.name(),
            },
            status: StatusAnswer {
                capacity: size(|stats| stats.capacity),
                available: size(|stats| stats.available),
                used_size: size(|stats| stats.used),
                leader_count: load.leaders,
                leader_weight: 1.0,
                // PD's default policy scores leaders by count, and regions by size.
                leader_score: load.leaders as f64,
                leader_size: load.leader_size,
                region_count: load.regions,
                region_weight: 1.0,
                region_score: load.region_size as f64,
                region_size: load.region_size,
                pending_peer_count: load.pending_peers,
                slow_score: stats.map_or(0, |stats| stats.slow_score),
                is_busy: stats.is_some_and(|stats| stats.is_busy),
                start_ts: rfc3339(started),
                last_heartbeat_ts: rfc3339(last_heard),
                uptime: Some(last_heard - started).filter(|uptime| *uptime > 0).map(go_duration),
            },
        }
    }
}

/// JSON answer of the endpoint `/stores`.
#[derive(Debug, Serialize)]
pub(crate) struct StoresAnswer<'a> {
    count: usize,
    stores: Vec<StoreAnswer<'a>>,
}

impl<'a> StoresAnswer<'a> {
    #[must_use]
    pub fn new(stores: Vec<StoreAnswer<'a>>) -> Self {
        Self { count: stores.len(), stores }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_depends_on_the_silence() {
        let timing = PdTiming::new(0.05).unwrap();
        for (millis, state) in [
            (0, StoreState::Up),
            (1_000, StoreState::Up),
            (1_001, StoreState::Disconnected),
            (90_000, StoreState::Disconnected),
            (90_001, StoreState::Down),
        ] {
            assert_eq!(StoreState::of(millis * 1_000_000, timing), state, "{millis}");
        }
    }

    #[test]
    fn store_is_formatted_like_in_pd() {
        let meta = StoreMeta {
            id: 1,
            address: "tikv1:20160".into(),
            status_address: "tikv1:20180".into(),
            version: "8.5.7".into(),
            labels: vec![Label { key: "host".into(), value: "tikv1".into() }],
            start_timestamp: 1_782_036_001,
            deploy_path: "/".into(),
        };
        let stats = StoreStats {
            last_heartbeat: 1_782_039_611_123_456_789,
            capacity: 500 << 30,
            available: (500 << 30) - (3 << 29),
            used: 3 << 29,
            is_busy: false,
            slow_score: 1,
        };
        let load = StoreLoad { leaders: 21, leader_size: 1874, regions: 63, region_size: 5610, ..StoreLoad::default() };
        let view =
            StoreView { meta: &meta, stats: Some(&stats), last_heard: stats.last_heartbeat, load, state: StoreState::Up, silence: 0 };
        assert_eq!(
            serde_json::to_string(&StoresAnswer::new(vec![view.into()])).unwrap(),
            concat!(
                r#"{"count":1,"stores":[{"store":{"id":1,"address":"tikv1:20160","labels":[{"key":"host","value":"tikv1"}],"version":"8.5.7","#,
                r#""peer_address":"tikv1:20160","status_address":"tikv1:20180","start_timestamp":1782036001,"deploy_path":"/","#,
                r#""last_heartbeat":1782039611123456789,"node_state":1,"state_name":"Up"},"#,
                r#""status":{"capacity":"500GiB","available":"498.5GiB","used_size":"1.5GiB","#,
                r#""leader_count":21,"leader_weight":1,"leader_score":21,"leader_size":1874,"#,
                r#""region_count":63,"region_weight":1,"region_score":5610,"region_size":5610,"slow_score":1,"#,
                r#""start_ts":"2026-06-21T10:00:01Z","last_heartbeat_ts":"2026-06-21T11:00:11.123456789Z","uptime":"1h0m10.123456789s"}}]}"#
            )
        );
    }
}
