//! Scheduler state of the PD leader: the durable state, and the contents of the heartbeats that this member received as leader.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::durable::{Durable, StateCommand, StoreMeta};
use super::operators::{LeaderTransfer, Operators, TransferOrigin, TransferStatus};
use super::regions::{HeartbeatEffect, Regions};
use super::stores::{StoreLoad, StoreState, StoreStats, StoreView};
use super::timing::{AnchoredClock, Nanos, PdTiming, nanos};
use crate::log::NodeLog;
use crate::wire::{Orders, Peer, RegionHeartbeat, RegionHeartbeats, StoreHeartbeat};

/// Largest number of concurrent leader transfers by schedulers, as in PD's setting `leader-schedule-limit`.
const LEADER_SCHEDULE_LIMIT: usize = 4;

/// Reason why PD does not create an operator: the body of the response with status 500.
pub type OperatorRefusal = String;

/// Scheduler state of the PD leader. A plain state machine: the time comes from the field `clock`, and the only IO is logging.
#[derive(Debug)]
pub struct PdCluster {
    pub timing: PdTiming,
    pub clock: AnchoredClock,
    pub log: NodeLog,
    pub durable: Arc<Durable>,
    pub stats: BTreeMap<u64, StoreStats>,
    pub regions: Regions,
    pub operators: Operators,
    /// True if this member is the leader. Followers keep a copy of the state and log nothing.
    leading: bool,
    /// Time at which this member became leader. The silence of a store is never counted from an earlier time.
    took_over: Nanos,
}

impl PdCluster {
    #[must_use]
    pub fn new(timing: PdTiming, clock: AnchoredClock, log: NodeLog) -> Self {
        Self {
            timing,
            clock,
            log,
            durable: Arc::default(),
            stats: BTreeMap::new(),
            regions: Regions::default(),
            operators: Operators::default(),
            leading: false,
            took_over: clock.now(),
        }
    }

    /// Begins a new term as leader. Removes all operators. Data about regions stays until the next heartbeat of each region.
    pub fn take_over(&mut self) {
        self.took_over = self.clock.now();
        self.operators = Operators::default();
        self.leading = true;
        for store in &self.durable.evicting {
            self.log.info("pause store leader transfer", &[("store-id", store)]);
        }
    }

    /// Marks this member as leader again after its lease lapsed within the same term. Operators stay.
    pub fn lead_on(&mut self) {
        self.leading = true;
    }

    pub fn step_down(&mut self) {
        self.leading = false;
    }

    /// Replaces the durable state by a newer one from the replicated log, and logs the changes if this member leads.
    pub fn learn(&mut self, durable: Arc<Durable>) {
        let old = std::mem::replace(&mut self.durable, durable);
        if !self.leading {
            return;
        }
        for (id, store) in &self.durable.stores {
            if old.stores.get(id) != Some(store) {
                self.log.info("put store ok", &[("store", store)]);
            }
        }
        for store in self.durable.evicting.difference(&old.evicting) {
            self.log.info("pause store leader transfer", &[("store-id", store)]);
        }
        for store in old.evicting.difference(&self.durable.evicting) {
            self.log.info("resume store leader transfer", &[("store-id", store)]);
        }
    }

    /// Returns the data that the leader copies to the other members. A new leader starts with this copy.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory { stats: self.stats.clone(), regions: self.regions.iter().cloned().collect() }
    }

    /// Stores the data that the leader has copied to this member. Regions of an older term never replace newer ones. Does nothing if this
    /// member leads.
    pub fn remember(&mut self, memory: Memory) {
        if self.leading {
            return;
        }
        self.stats = memory.stats;
        for region in memory.regions {
            self.regions.put(region);
        }
    }

    /// Returns the command that must be committed before the heartbeat of a store is processed. Returns `None` if no command is needed.
    #[must_use]
    pub fn before_heartbeat(&self, heartbeat: &StoreHeartbeat) -> Option<StateCommand> {
        let store = StoreMeta::from(heartbeat);
        if self.durable.stores.get(&heartbeat.id) != Some(&store) {
            Some(StateCommand::PutStore { store, at: self.clock.now() })
        } else if self.durable.silent.contains_key(&heartbeat.id) {
            Some(StateCommand::StoreHeard { store: heartbeat.id })
        } else {
            None
        }
    }

    pub fn store_heartbeat(&mut self, heartbeat: &StoreHeartbeat) -> Orders {
        self.stats.insert(heartbeat.id, StoreStats::of(heartbeat, self.clock.now()));
        self.schedule();
        let led: Vec<u64> =
            self.regions.iter().filter(|region| region.leader.store_id == heartbeat.id).map(|region| region.region_id).collect();
        Orders { transfer_leader: self.operators.orders(led.into_iter()).collect() }
    }

    pub fn region_heartbeats(&mut self, heartbeats: RegionHeartbeats) -> Orders {
        let ids: Vec<u64> = heartbeats.regions.iter().map(|region| region.region_id).collect();
        for region in heartbeats.regions {
            self.region_heartbeat(region);
        }
        self.schedule();
        let led = ids.into_iter().filter(|id| self.regions.get(*id).is_some_and(|region| region.leader.store_id == heartbeats.store_id));
        Orders { transfer_leader: self.operators.orders(led).collect() }
    }

    fn region_heartbeat(&mut self, region: RegionHeartbeat) {
        let id = region.region_id;
        match self.regions.put(region) {
            HeartbeatEffect::Stale => return,
            HeartbeatEffect::Leader { from, to } => {
                self.log.info("leader changed", &[("region-id", &id), ("from", &from), ("to", &to)]);
            }
            HeartbeatEffect::New | HeartbeatEffect::Same => {}
        }
        let now = self.clock.now();
        if let Some(region) = self.regions.get(id)
            && let Some(operator) = self.operators.observe(region, now)
        {
            log_end(&self.log, operator, now);
        }
    }

    /// Ends operators that exceeded their time limit, removes old results, and schedules leader transfers. Called periodically.
    pub fn tick(&mut self) {
        let now = self.clock.now();
        for operator in self.operators.expire(now) {
            log_end(&self.log, &operator, now);
        }
        self.operators.forget_ended_before(now - nanos(self.timing.operator_record()));
        self.schedule();
    }

    /// Returns one command for each store that is silent but not yet recorded as silent in the replicated log.
    #[must_use]
    pub fn newly_silent(&self) -> Vec<StateCommand> {
        self.stores()
            .filter(|view| view.state != StoreState::Up && !self.durable.silent.contains_key(&view.meta.id))
            .map(|view| StateCommand::StoreSilent { store: view.meta.id, since: view.last_heard })
            .collect()
    }

    /// Runs the evict-leader scheduler: transfers leaders away from the stores in `evicting`, a few at a time.
    fn schedule(&mut self) {
        let evicting = self.durable.evicting.clone();
        for store in evicting {
            let mut led: Vec<RegionHeartbeat> = self
                .regions
                .iter()
                .filter(|region| region.leader.store_id == store && !self.operators.is_running(region.region_id))
                .cloned()
                .collect();
            // Healthy regions are evicted first.
            led.sort_by_key(|region| (!region.pending_peers.is_empty() || !region.down_peers.is_empty(), region.region_id));
            for region in led {
                if self.operators.running().filter(|operator| !operator.is_admin()).count() >= LEADER_SCHEDULE_LIMIT {
                    return;
                }
                self.evict(&region);
            }
        }
    }

    fn evict(&mut self, region: &RegionHeartbeat) {
        let targets: Vec<Peer> = region
            .peers
            .iter()
            .filter(|peer| peer.id != region.leader.id && !is_unhealthy(region, peer) && self.may_lead(peer.store_id))
            .cloned()
            .collect();
        // The target is the store with the fewest leaders, pending transfers included.
        let load = |peer: &&Peer| {
            let on_their_way = self.operators.orders(self.regions.iter().map(|region| region.region_id));
            self.load(peer.store_id).leaders + on_their_way.filter(|order| order.to.store_id == peer.store_id).count() as u64
        };
        let Some(to) = targets.iter().min_by_key(|peer| (load(peer), peer.store_id)).cloned() else { return };
        let origin = TransferOrigin::Evict { targets: targets.iter().map(|peer| peer.store_id).collect() };
        // The caller has checked that the region has no operator.
        let _ = self.add(origin, region, to);
    }

    /// Starts a leader transfer, as requested by `POST /operators {"name":"transfer-leader"}`.
    ///
    /// # Errors
    /// Returns PD's own error message if the transfer is impossible.
    pub fn transfer_leader(&mut self, region_id: u64, to_store: u64) -> Result<(), OperatorRefusal> {
        let Some(region) = self.regions.get(region_id).cloned() else {
            return Err(format!("[PD:region:ErrRegionNotFound]region {region_id} not found"));
        };
        let Some(to) = region.peers.iter().find(|peer| peer.store_id == to_store).cloned() else {
            return Err(format!("region has no voter in store {to_store}"));
        };
        if region.leader.id == 0 {
            return Err("cannot build operator for region with no leader".to_owned());
        }
        if is_unhealthy(&region, &to) {
            return Err(format!("cannot transfer leader to {to_store}: unhealthy"));
        }
        if to.id == region.leader.id {
            return Err("no operator step is built".to_owned());
        }
        if !self.may_lead(to_store) {
            return Err("cannot create operator: target leader is not allowed".to_owned());
        }
        if self.add(TransferOrigin::Admin, &region, to) {
            Ok(())
        } else {
            Err("[PD:operator:ErrAddOperator]failed to add operator, maybe already have one".to_owned())
        }
    }

    /// Returns PD's reason for not adding a peer of a region on a store. Every store already has a peer of every region, so a reason always
    /// exists.
    #[must_use]
    pub fn refuse_peer(&self, region_id: u64, from: Option<u64>, store: u64) -> OperatorRefusal {
        let on = |region: &RegionHeartbeat, store: u64| region.peers.iter().find(|peer| peer.store_id == store).cloned();
        match self.regions.get(region_id) {
            None => format!("[PD:region:ErrRegionNotFound]region {region_id} not found"),
            Some(region) if from.is_some_and(|from| on(region, from).is_none()) => {
                format!("region has no peer in store {}", from.unwrap_or_default())
            }
            Some(region) if from.is_none() && on(region, store).is_some() => format!("region already has peer in store {store}"),
            // PD notices this while it plans the move, and prints both peers in protobuf format.
            Some(region) if let Some(peer) = on(region, store) => {
                format!("cannot add peer store_id:{store} : already have peer id:{} store_id:{store} ", peer.id)
            }
            Some(_) if !self.durable.stores.contains_key(&store) => format!("[PD:core:ErrStoreNotFound]store {store} not found"),
            Some(_) => "operators on peers are not supported by this cluster".to_owned(),
        }
    }

    fn add(&mut self, origin: TransferOrigin, region: &RegionHeartbeat, to: Peer) -> bool {
        let (now, began, timeout) = (self.clock.now(), self.clock.began(), nanos(self.timing.operator()));
        let Some(operator) = self.operators.add(LeaderTransfer::new(origin, region, to, now, began, timeout)) else { return false };
        let region = operator.region();
        self.log.info("add operator", &[("region-id", &region), ("operator", &quoted(operator)), ("additional-info", &"")]);
        true
    }

    /// Cancels the running operator of a region. Returns false if the region has no running operator.
    pub fn cancel(&mut self, region: u64) -> bool {
        let now = self.clock.now();
        let Some(operator) = self.operators.cancel(region, now) else { return false };
        let takes = super::text::go_duration(operator.takes(now));
        self.log.info("operator removed", &[("region-id", &region), ("takes", &takes), ("operator", &quoted(operator))]);
        log_end(&self.log, operator, now);
        true
    }

    /// Returns true if a store may become the target of a leader transfer.
    fn may_lead(&self, store: u64) -> bool {
        let busy = self.stats.get(&store).is_some_and(|stats| stats.is_busy);
        !busy && !self.durable.evicting.contains(&store) && self.store(store).is_some_and(|view| view.state == StoreState::Up)
    }

    #[must_use]
    pub fn store(&self, id: u64) -> Option<StoreView<'_>> {
        let meta = self.durable.stores.get(&id)?;
        let stats = self.stats.get(&id);
        let heard = stats.map_or(0, |stats| stats.last_heartbeat);
        let last_heard = match self.durable.silent.get(&id) {
            // An earlier leader has recorded the store as silent.
            Some(since) => heard.max(*since),
            None => heard.max(self.took_over),
        };
        let silence = self.clock.now() - last_heard;
        Some(StoreView { meta, stats, last_heard, load: self.load(id), state: StoreState::of(silence, self.timing), silence })
    }

    /// Returns an iterator over all stores, in the order of their ids.
    pub fn stores(&self) -> impl Iterator<Item = StoreView<'_>> {
        self.durable.stores.keys().filter_map(|id| self.store(*id))
    }

    /// Returns the load of a store, computed from the heartbeats of its regions as in PD, not from the heartbeat of the store.
    #[must_use]
    pub fn load(&self, store: u64) -> StoreLoad {
        let mut load = StoreLoad::default();
        for region in self.regions.iter() {
            if region.leader.store_id == store {
                load.leaders += 1;
                load.leader_size += region.approximate_size;
                load.leader_keys += region.approximate_keys;
            }
            if region.peers.iter().any(|peer| peer.store_id == store) {
                load.regions += 1;
                load.region_size += region.approximate_size;
                load.region_keys += region.approximate_keys;
            }
            load.pending_peers += region.pending_peers.iter().filter(|peer| peer.store_id == store).count() as u64;
        }
        load
    }
}

/// Part of the leader's state that the leader copies to the other members.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    stats: BTreeMap<u64, StoreStats>,
    regions: Vec<RegionHeartbeat>,
}

fn is_unhealthy(region: &RegionHeartbeat, peer: &Peer) -> bool {
    region.pending_peers.contains(peer) || region.down_peers.iter().any(|(down, _)| down == peer)
}

/// Formats an operator as a JSON string, like zap, the logger of PD. The log format then quotes the result again.
fn quoted(operator: &LeaderTransfer) -> String {
    serde_json::Value::from(operator.to_string()).to_string()
}

fn log_end(log: &NodeLog, operator: &LeaderTransfer, now: Nanos) {
    let message = match operator.status() {
        TransferStatus::Success => "operator finish",
        TransferStatus::Timeout => "operator timeout",
        TransferStatus::Canceled => "operator canceled",
        TransferStatus::Started => return,
    };
    let takes = super::text::go_duration(operator.takes(now));
    log.info(message, &[("region-id", &operator.region()), ("takes", &takes), ("operator", &quoted(operator)), ("additional-info", &"")]);
}

#[cfg(test)]
mod tests {
    use super::super::regions::tests::region;
    use super::*;
    use crate::log::{LogLevel, LogStyle};

    fn heartbeat(id: u64) -> StoreHeartbeat {
        StoreHeartbeat {
            id,
            address: format!("tikv{id}:20160"),
            status_address: format!("tikv{id}:20180"),
            version: "8.5.7".into(),
            start_timestamp: 1,
            deploy_path: "/".into(),
            labels: Vec::new(),
            capacity: 1 << 30,
            available: 1 << 30,
            used: 0,
            leader_count: 0,
            region_count: 0,
            is_busy: false,
            slow_score: 1,
        }
    }

    fn commit(cluster: &mut PdCluster, command: StateCommand) {
        Arc::make_mut(&mut cluster.durable).apply(command);
    }

    /// Creates a cluster with three stores and the regions 1 to `regions` without gaps, all led by store 1.
    fn cluster(regions: u64) -> PdCluster {
        let log = NodeLog::new(LogStyle::Pd, LogLevel::Info, Box::new(std::io::sink()));
        let mut cluster = PdCluster::new(PdTiming::new(0.05).unwrap(), AnchoredClock::start(), log);
        for id in 1..=3 {
            let command = cluster.before_heartbeat(&heartbeat(id)).unwrap();
            commit(&mut cluster, command);
            assert!(cluster.before_heartbeat(&heartbeat(id)).is_none());
            cluster.store_heartbeat(&heartbeat(id));
        }
        let key = |n: u64| if n == 0 || n == regions { String::new() } else { format!("{n:02X}") };
        let regions = (1..=regions).map(|id| region(id, &key(id - 1), &key(id), 1)).collect();
        assert!(cluster.region_heartbeats(RegionHeartbeats { store_id: 1, regions }).transfer_leader.is_empty());
        cluster
    }

    fn led_by(region_id: u64, store: u64, cluster: &PdCluster) -> RegionHeartbeats {
        let mut region = cluster.regions.get(region_id).unwrap().clone();
        region.leader = region.peers.iter().find(|peer| peer.store_id == store).unwrap().clone();
        region.term += 1;
        RegionHeartbeats { store_id: store, regions: vec![region] }
    }

    #[test]
    fn transfers_are_refused_with_pds_wording() {
        let mut cluster = cluster(3);
        let mut flawed = cluster.regions.get(3).unwrap().clone();
        flawed.pending_peers = vec![flawed.peers[1].clone()];
        flawed.down_peers = vec![(flawed.peers[2].clone(), 700)];
        cluster.region_heartbeats(RegionHeartbeats { store_id: 1, regions: vec![flawed] });
        for (region, store, words) in [
            (9, 2, "[PD:region:ErrRegionNotFound]region 9 not found"),
            (1, 9, "region has no voter in store 9"),
            (3, 2, "cannot transfer leader to 2: unhealthy"),
            (3, 3, "cannot transfer leader to 3: unhealthy"),
            (1, 1, "no operator step is built"),
        ] {
            assert_eq!(cluster.transfer_leader(region, store).unwrap_err(), words);
        }
        assert_eq!(cluster.transfer_leader(1, 2), Ok(()));
        assert_eq!(
            cluster.transfer_leader(1, 3).unwrap_err(),
            "[PD:operator:ErrAddOperator]failed to add operator, maybe already have one"
        );
        commit(&mut cluster, StateCommand::EvictLeader { store: 3 });
        assert_eq!(cluster.transfer_leader(2, 3).unwrap_err(), "cannot create operator: target leader is not allowed");
        assert!(cluster.cancel(1));
        assert!(!cluster.cancel(1));
    }

    #[test]
    fn transfer_order_is_repeated_until_the_leader_moved() {
        let mut cluster = cluster(2);
        cluster.transfer_leader(2, 3).unwrap();
        for _ in 0..2 {
            let orders = cluster.store_heartbeat(&heartbeat(1)).transfer_leader;
            assert_eq!((orders.len(), orders[0].region_id, orders[0].to.store_id), (1, 2, 3));
        }
        assert!(cluster.store_heartbeat(&heartbeat(3)).transfer_leader.is_empty());
        let moved = led_by(2, 3, &cluster);
        assert!(cluster.region_heartbeats(moved).transfer_leader.is_empty());
        assert_eq!(cluster.operators.latest(2).unwrap().status(), TransferStatus::Success);
        assert_eq!((cluster.load(1).leaders, cluster.load(3).leaders), (1, 1));
    }

    #[test]
    fn eviction_is_limited_and_spread_over_stores() {
        let mut cluster = cluster(8);
        commit(&mut cluster, StateCommand::EvictLeader { store: 1 });
        let mut rounds = 0;
        while cluster.load(1).leaders > 0 {
            let orders = cluster.store_heartbeat(&heartbeat(1)).transfer_leader;
            assert!((1..=LEADER_SCHEDULE_LIMIT).contains(&orders.len()));
            for order in orders {
                let moved = led_by(order.region_id, order.to.store_id, &cluster);
                cluster.region_heartbeats(moved);
            }
            rounds += 1;
        }
        assert_eq!(rounds, 2);
        assert_eq!((cluster.load(2).leaders, cluster.load(3).leaders), (4, 4));
    }

    #[test]
    fn new_leader_distinguishes_silent_and_living_stores() {
        let mut old = cluster(1);
        let silent = old.clock.now() - nanos(old.timing.down());
        old.stats.get_mut(&2).unwrap().last_heartbeat = silent;
        commit(&mut old, StateCommand::StoreSilent { store: 2, since: silent });
        let memory: Memory = serde_json::from_slice(&serde_json::to_vec(&old.memory()).unwrap()).unwrap();

        let mut new = PdCluster::new(old.timing, old.clock, old.log.clone());
        new.remember(memory);
        new.learn(Arc::clone(&old.durable));
        new.take_over();
        let states = |cluster: &PdCluster| cluster.stores().map(|view| view.state).collect::<Vec<_>>();
        assert_eq!(states(&new), [StoreState::Up, StoreState::Down, StoreState::Up]);
        assert!(new.newly_silent().is_empty());
        assert_eq!(new.before_heartbeat(&heartbeat(2)), Some(StateCommand::StoreHeard { store: 2 }));
        assert_eq!(new.load(1).leaders, 1);
    }

    #[test]
    fn silent_store_is_recorded_once() {
        let mut cluster = cluster(1);
        let past = cluster.clock.now() - nanos(cluster.timing.disconnected()) - 1;
        cluster.stats.get_mut(&3).unwrap().last_heartbeat = past;
        cluster.took_over = past - 1;
        let noted = cluster.newly_silent();
        assert_eq!(noted, [StateCommand::StoreSilent { store: 3, since: past }]);
        commit(&mut cluster, noted[0].clone());
        assert!(cluster.newly_silent().is_empty());
        assert_eq!(cluster.transfer_leader(1, 3).unwrap_err(), "cannot create operator: target leader is not allowed");
    }
}
