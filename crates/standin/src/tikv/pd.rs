//! Heartbeats of a store to PD, and execution of PD's orders. Without PD, the store continues to serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::http::CallError;
use super::kv::Kv;
use super::layout::{CONF_VER, hex};
use super::store::{Store, VERSION};
use crate::raft::GroupStatus;
use crate::wire::{Orders, Peer, RegionHeartbeat, RegionHeartbeats, StoreHeartbeat, TransferLeader};

const MEBI: u64 = 1 << 20;

/// Client of PD for the heartbeats of a store.
pub(crate) struct PdClient {
    store: Arc<Store>,
    /// Index of the PD endpoint that answered last.
    current: AtomicUsize,
    /// False from a failed heartbeat until the next successful heartbeat.
    reachable: AtomicBool,
}

/// Starts the heartbeats of the store, which continue until the runtime ends.
pub fn start(store: &Arc<Store>) {
    if store.settings.pd_endpoints.is_empty() {
        return;
    }
    let client = Arc::new(PdClient { store: Arc::clone(store), current: AtomicUsize::new(0), reachable: AtomicBool::new(true) });
    tokio::spawn(Arc::clone(&client).store_heartbeats());
    tokio::spawn(client.region_heartbeats());
}

impl PdClient {
    /// Returns the time limit of a request to PD. PD itself waits up to 3 s (scaled) for a leader before it refuses.
    fn limit(&self) -> Duration {
        self.store.settings.clock.scaled(5.0).max(Duration::from_millis(100))
    }

    /// Sends a request to the PD endpoint that answered last. After a failure, tries each other endpoint once.
    async fn post(&self, path: &str, body: &impl Serialize) -> Result<Orders, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::NotSent(error.to_string()))?;
        let endpoints = &self.store.settings.pd_endpoints;
        let first = self.current.load(Ordering::Relaxed);
        let mut last = CallError::NotSent("no endpoints".to_owned());
        for place in (first..first + endpoints.len()).map(|place| place % endpoints.len()) {
            let Some(endpoint) = endpoints.get(place) else { continue };
            match self.store.client.post_json(endpoint, path, body.clone(), self.limit()).await {
                Ok(answer) => {
                    if self.current.swap(place, Ordering::Relaxed) != place {
                        self.store.metrics.pd_reconnects.add(&["success"]);
                    }
                    // Unreadable orders are treated as an empty list of orders.
                    return Ok(serde_json::from_slice(&answer).unwrap_or_default());
                }
                Err(error) => {
                    self.store.metrics.pd_reconnects.add(&["failure"]);
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Logs the first failed request to PD, and the first success after failures.
    fn note(&self, what: &str, outcome: &Result<Orders, CallError>) {
        match outcome {
            Ok(_) => {
                if !self.reachable.swap(true, Ordering::Relaxed) {
                    self.store.log.info("update pd client done", &[]);
                }
            }
            Err(error) => {
                if self.reachable.swap(false, Ordering::Relaxed) {
                    self.store.log.error(what, &[("err", error)]);
                }
            }
        }
    }

    async fn store_heartbeats(self: Arc<Self>) {
        let mut round = interval(self.store.settings.clock.store_heartbeat());
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            let began = Instant::now();
            let mut outcome = self.post("/standin/store-heartbeat", &self.describe_store()).await;
            self.note("store heartbeat failed", &outcome);
            // PD does not know this store before the store heartbeat, so this heartbeat is repeated within the round.
            while outcome.is_err() && began.elapsed() < self.store.settings.clock.store_heartbeat() {
                sleep(self.store.settings.clock.scaled(1.0)).await;
                outcome = self.post("/standin/store-heartbeat", &self.describe_store()).await;
                self.note("store heartbeat failed", &outcome);
            }
            if let Ok(orders) = outcome {
                self.store.metrics.pd.observe(began.elapsed());
                self.obey(orders);
            }
        }
    }

    fn describe_store(&self) -> StoreHeartbeat {
        let store = &self.store;
        let now = store.now();
        let usage = *store.usage.borrow();
        let deploy_path = std::env::current_exe().ok().and_then(|path| path.parent().map(|dir| dir.display().to_string()));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a score of 1 to 100")]
        let slow_score = now.slow_score.round() as u64;
        StoreHeartbeat {
            id: store.settings.store_id,
            address: store.settings.advertise_addr.clone(),
            status_address: store.settings.advertise_status_addr.clone(),
            version: VERSION.to_owned(),
            start_timestamp: store.started,
            deploy_path: deploy_path.unwrap_or_default(),
            labels: store.settings.labels.clone(),
            capacity: usage.capacity,
            available: usage.available,
            used: usage.used,
            leader_count: now.leaders,
            region_count: now.regions,
            is_busy: store.raft.disk_full(),
            slow_score,
        }
    }

    /// Sends a heartbeat for all led regions every 60 s (scaled). Regions whose leader or peers changed are sent at once.
    async fn region_heartbeats(self: Arc<Self>) {
        let mut events = self.store.raft.events();
        let mut round = interval(self.store.settings.clock.region_heartbeat());
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(self.store.settings.clock.store_heartbeat());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memory = Memory::default();
        loop {
            let mut only_changed = tokio::select! {
                _ = round.tick() => false,
                _ = look.tick() => true,
                event = events.recv() => match event {
                    Ok(_) => true,
                    Err(RecvError::Lagged(_)) => false,
                    Err(RecvError::Closed) => return,
                },
            };
            // Elections often happen together, so all changes since the last heartbeat are sent in one request.
            while let Ok(_) | Err(TryRecvError::Lagged(_)) = events.try_recv() {}
            loop {
                let led = self.led(&mut memory);
                let due: Vec<_> =
                    led.into_iter().filter(|(region, facts)| !only_changed || memory.told.get(region) != Some(facts)).collect();
                if due.is_empty() {
                    break;
                }
                let outcome = self.tell(&due).await;
                self.note("region heartbeat failed", &outcome);
                if let Ok(orders) = outcome {
                    memory.told.extend(due);
                    self.obey(orders);
                    break;
                }
                // Regions that PD does not know are sent again soon, possibly with further changes.
                only_changed = true;
                sleep(self.store.settings.clock.scaled(1.0)).await;
            }
        }
    }

    /// Returns the data for PD about every region that this store leads, by region id.
    fn led(&self, memory: &mut Memory) -> BTreeMap<u64, Facts> {
        let led: Vec<GroupStatus> = self.store.raft.statuses().into_iter().filter(GroupStatus::is_leader).collect();
        memory.since.retain(|region, (term, _)| led.iter().any(|status| status.group == *region && status.term == *term));
        memory.told.retain(|region, _| led.iter().any(|status| status.group == *region));
        let down_after = self.store.settings.clock.max_peer_down();
        led.into_iter()
            .map(|status| {
                let (_, since) = *memory.since.entry(status.group).or_insert((status.term, Instant::now()));
                let others = status.peers.iter().filter(|(peer, _)| **peer != status.peer);
                let mut facts = Facts { term: status.term, down: Vec::new(), pending: Vec::new() };
                for (id, peer) in others {
                    // The silence of a peer counts from the time at which this peer became leader.
                    let silent = peer.heard.map_or(since, |heard| heard.max(since)).elapsed();
                    if silent > down_after {
                        facts.down.push(Peer { id: *id, store_id: peer.host });
                    }
                    // As in TiKV: the log no longer contains the entries that the peer lacks.
                    if peer.matched < status.truncated.0 {
                        facts.pending.push(Peer { id: *id, store_id: peer.host });
                    }
                }
                (status.group, facts)
            })
            .collect()
    }

    async fn tell(&self, due: &[(u64, Facts)]) -> Result<Orders, CallError> {
        let mut regions = Vec::new();
        for (id, facts) in due {
            if let Some(region) = self.describe_region(*id, facts).await {
                self.store.metrics.pd_messages.add(&["send"]);
                regions.push(region);
            }
        }
        let beat = RegionHeartbeats { store_id: self.store.settings.store_id, regions };
        let orders = self.post("/standin/region-heartbeats", &beat).await?;
        for told in &beat.regions {
            // Traffic that is counted during the heartbeat belongs to the next heartbeat.
            if let Some(traffic) = self.store.traffic.get(&told.region_id) {
                traffic.read_keys.fetch_sub(told.read_keys, Ordering::Relaxed);
                traffic.read_bytes.fetch_sub(told.read_bytes, Ordering::Relaxed);
                traffic.written_keys.fetch_sub(told.written_keys, Ordering::Relaxed);
                traffic.written_bytes.fetch_sub(told.written_bytes, Ordering::Relaxed);
            }
        }
        Ok(orders)
    }

    async fn describe_region(&self, id: u64, facts: &Facts) -> Option<RegionHeartbeat> {
        let store = &self.store;
        let region = store.regions.get(&id)?;
        let status = store.raft.status(id)?;
        let (keys, bytes) = store.raft.peek(id, Kv::size).await.ok()?;
        let traffic = store.traffic.get(&id)?;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let silent = |peer: &Peer| status.peers.get(&peer.id).and_then(|peer| peer.heard).map(|heard| heard.elapsed());
        Some(RegionHeartbeat {
            region_id: id,
            start_key: hex(&region.start),
            end_key: hex(&region.end),
            conf_ver: CONF_VER,
            version: store.layout.version(),
            term: facts.term,
            peers: region.peers.clone(),
            leader: region.peers.iter().find(|peer| peer.store_id == store.settings.store_id)?.clone(),
            down_peers: facts
                .down
                .iter()
                .map(|peer| (peer.clone(), silent(peer).unwrap_or(store.settings.clock.max_peer_down()).as_secs()))
                .collect(),
            pending_peers: facts.pending.clone(),
            approximate_size: bytes.div_ceil(MEBI).max(1),
            approximate_keys: keys,
            written_bytes: count(&traffic.written_bytes),
            read_bytes: count(&traffic.read_bytes),
            written_keys: count(&traffic.written_keys),
            read_keys: count(&traffic.read_keys),
        })
    }

    fn obey(&self, orders: Orders) {
        for TransferLeader { region_id, to } in orders.transfer_leader {
            self.store.metrics.pd_messages.add(&["transfer leader"]);
            let Some(status) = self.store.raft.status(region_id).filter(GroupStatus::is_leader) else { continue };
            let to_peer = format!("id: {} store_id: {}", to.id, to.store_id);
            let from_peer = format!("id: {} store_id: {}", status.peer, self.store.settings.store_id);
            self.store.log.info(
                "try to transfer leader",
                &[("region_id", &region_id), ("from_peer", &from_peer), ("to_peer", &to_peer), ("to_peers", &"[]")],
            );
            self.store.transfer(&status, to.store_id);
        }
    }
}

/// Data of the last heartbeat, and start of the leadership of each region.
#[derive(Default)]
struct Memory {
    told: BTreeMap<u64, Facts>,
    /// Term of the leadership and start time of that term, by region id.
    since: BTreeMap<u64, (u64, Instant)>,
}

/// Data about a region whose change causes a heartbeat at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    term: u64,
    down: Vec<Peer>,
    pending: Vec<Peer>,
}
