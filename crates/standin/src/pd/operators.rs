//! Operators of PD: the leader transfers that PD has ordered, and their results.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::regions::EpochAnswer;
use super::text::{go_duration, go_time};
use super::timing::Nanos;
use crate::wire::{Peer, RegionHeartbeat, TransferLeader};

/// Bit of the number `kind`, in the JSON object of an operator, for operators of an administrator.
const KIND_ADMIN: u32 = 1;
const KIND_LEADER: u32 = 1 << 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferStatus {
    Started,
    Success,
    Canceled,
    Timeout,
}

impl TransferStatus {
    /// Returns the number of the status in the JSON object of an operator.
    fn code(self) -> u8 {
        match self {
            Self::Started => 1,
            Self::Success => 2,
            Self::Canceled => 3,
            Self::Timeout => 6,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Started => "RUNNING",
            Self::Success => "SUCCESS",
            Self::Canceled => "CANCEL",
            Self::Timeout => "TIMEOUT",
        }
    }

    /// Returns the value of the label `event` of the metric `pd_schedule_operators_count`.
    fn event(self) -> &'static str {
        match self {
            Self::Started => "start",
            Self::Success => "finish",
            Self::Canceled => "cancel",
            Self::Timeout => "timeout",
        }
    }
}

/// Cause of a leader transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferOrigin {
    /// Request `POST /operators` of an administrator.
    Admin,
    /// Evict-leader scheduler, which accepts each store in `targets` as the new leader.
    Evict { targets: Vec<u64> },
}

/// Operator that transfers the leadership of a region from one store to another.
#[derive(Debug, Clone)]
pub struct LeaderTransfer {
    origin: TransferOrigin,
    region: u64,
    epoch: EpochAnswer,
    from: u64,
    to: Peer,
    /// Size of the region in MiB.
    size: u64,
    created: Nanos,
    /// Start time of the process. Go prints times relative to this time.
    began: Nanos,
    timeout: i64,
    status: TransferStatus,
    ended: Option<Nanos>,
}

impl LeaderTransfer {
    #[must_use]
    pub fn new(origin: TransferOrigin, region: &RegionHeartbeat, to: Peer, now: Nanos, began: Nanos, timeout: i64) -> Self {
        Self {
            origin,
            region: region.region_id,
            epoch: EpochAnswer { conf_ver: region.conf_ver, version: region.version },
            from: region.leader.store_id,
            to,
            size: region.approximate_size,
            created: now,
            began,
            timeout,
            status: TransferStatus::Started,
            ended: None,
        }
    }

    #[must_use]
    pub fn region(&self) -> u64 {
        self.region
    }

    #[must_use]
    pub fn status(&self) -> TransferStatus {
        self.status
    }

    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.origin == TransferOrigin::Admin
    }

    /// Returns the run time of the operator in nanoseconds: until `now`, or until the end of a finished operator.
    #[must_use]
    pub fn takes(&self, now: Nanos) -> i64 {
        self.ended.unwrap_or(now) - self.created
    }

    #[must_use]
    pub fn desc(&self) -> &'static str {
        match self.origin {
            TransferOrigin::Admin => "admin-transfer-leader",
            TransferOrigin::Evict { .. } => "evict-leader-scheduler",
        }
    }

    fn brief(&self) -> String {
        match &self.origin {
            TransferOrigin::Admin => format!("transfer leader: store {} to {}", self.from, self.to.store_id),
            TransferOrigin::Evict { targets } => {
                let targets = targets.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
                format!("evict leader: from store {} to one in [{targets}], or to {} (for compatibility)", self.from, self.to.store_id)
            }
        }
    }

    fn is_finished_by(&self, leader_store: u64) -> bool {
        leader_store == self.to.store_id || matches!(&self.origin, TransferOrigin::Evict { targets } if targets.contains(&leader_store))
    }

    /// Returns the operator in the JSON format of `GET /operators?object`.
    #[must_use]
    pub fn answer(&self) -> OperatorAnswer {
        OperatorAnswer {
            desc: self.desc(),
            brief: self.brief(),
            region_id: self.region,
            region_epoch: self.epoch,
            kind: if self.is_admin() { KIND_ADMIN | KIND_LEADER } else { KIND_LEADER },
            timeout: go_duration(self.timeout),
            status: self.status.code(),
        }
    }

    /// Returns the operator in the text format of `GET /operators/{region}`.
    #[must_use]
    pub fn with_status(&self) -> String {
        format!("status: {}, operator: {self}", self.status.name())
    }
}

impl fmt::Display for LeaderTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let created = go_time(self.created, self.created - self.began);
        write!(
            f,
            "{} {{{}}} (kind:{}, region:{}({}, {}), createAt:{created}, startAt:{created}, currentStep:{}, size:{}, \
             steps:[0:{{transfer leader from store {} to store {}}}], timeout:[{}])",
            self.desc(),
            self.brief(),
            if self.is_admin() { "admin,leader" } else { "leader" },
            self.region,
            self.epoch.version,
            self.epoch.conf_ver,
            u8::from(self.status == TransferStatus::Success),
            self.size,
            self.from,
            self.to.store_id,
            go_duration(self.timeout),
        )?;
        match self.status {
            TransferStatus::Success => f.write_str(" finished"),
            TransferStatus::Timeout => f.write_str(" timeout"),
            TransferStatus::Started | TransferStatus::Canceled => Ok(()),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct OperatorAnswer {
    desc: &'static str,
    brief: String,
    region_id: u64,
    region_epoch: EpochAnswer,
    kind: u32,
    timeout: String,
    status: u8,
}

/// All operators of the leader: at most one running operator per region, and operators that ended recently.
#[derive(Debug, Default)]
pub struct Operators {
    running: BTreeMap<u64, LeaderTransfer>,
    records: BTreeMap<u64, LeaderTransfer>,
    /// Number of events of operators, by description of the operator and name of the event.
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Operators {
    /// Starts an operator. Returns `None` if the region of the operator already has one. Admin and evict-leader operators have the same
    /// priority, so neither replaces the other.
    pub fn add(&mut self, operator: LeaderTransfer) -> Option<&LeaderTransfer> {
        if self.running.contains_key(&operator.region) {
            self.count(operator.desc(), "already-have");
            return None;
        }
        self.count(operator.desc(), "start");
        self.count(operator.desc(), "create");
        self.records.remove(&operator.region);
        Some(self.running.entry(operator.region).or_insert(operator))
    }

    /// Ends the operator of the reported region if the heartbeat shows that the transfer is done or the region has changed.
    pub fn observe(&mut self, region: &RegionHeartbeat, now: Nanos) -> Option<&LeaderTransfer> {
        let operator = self.running.get(&region.region_id)?;
        self.count(operator.desc(), "check");
        let operator = self.running.get(&region.region_id)?;
        if operator.is_finished_by(region.leader.store_id) {
            self.end(region.region_id, TransferStatus::Success, now)
        } else if (operator.epoch.version, operator.epoch.conf_ver) != (region.version, region.conf_ver) {
            self.end(region.region_id, TransferStatus::Canceled, now)
        } else {
            None
        }
    }

    /// Ends operators that exceeded their time limit, and returns them.
    pub fn expire(&mut self, now: Nanos) -> Vec<LeaderTransfer> {
        let late: Vec<u64> = self.running.values().filter(|op| op.takes(now) > op.timeout).map(|op| op.region).collect();
        late.into_iter().filter_map(|region| self.end(region, TransferStatus::Timeout, now).cloned()).collect()
    }

    /// Removes the results of operators that ended before `then`.
    pub fn forget_ended_before(&mut self, then: Nanos) {
        self.records.retain(|_, operator| operator.ended.is_none_or(|ended| ended >= then));
    }

    pub fn cancel(&mut self, region: u64, now: Nanos) -> Option<&LeaderTransfer> {
        self.end(region, TransferStatus::Canceled, now)
    }

    fn end(&mut self, region: u64, status: TransferStatus, now: Nanos) -> Option<&LeaderTransfer> {
        let operator = self.running.remove(&region)?;
        self.count(operator.desc(), status.event());
        if status == TransferStatus::Canceled {
            self.count(operator.desc(), "remove");
        }
        self.records.insert(region, LeaderTransfer { status, ended: Some(now), ..operator });
        self.records.get(&region)
    }

    fn count(&mut self, desc: &'static str, event: &'static str) {
        *self.counts.entry((desc, event)).or_default() += 1;
    }

    /// Returns the pending leader transfers of `regions`, as orders for the stores that lead these regions.
    pub fn orders<'a>(&'a self, regions: impl Iterator<Item = u64> + 'a) -> impl Iterator<Item = TransferLeader> + 'a {
        regions.filter_map(|region| self.running.get(&region)).map(|op| TransferLeader { region_id: op.region, to: op.to.clone() })
    }

    pub fn running(&self) -> impl Iterator<Item = &LeaderTransfer> {
        self.running.values()
    }

    #[must_use]
    pub fn is_running(&self, region: u64) -> bool {
        self.running.contains_key(&region)
    }

    /// Returns the running operator of a region, or else the operator that ended last.
    #[must_use]
    pub fn latest(&self, region: u64) -> Option<&LeaderTransfer> {
        self.running.get(&region).or_else(|| self.records.get(&region))
    }

    /// Returns the operators that ended since `from`, oldest first.
    #[must_use]
    pub fn records(&self, from: Nanos) -> Vec<&LeaderTransfer> {
        let mut records: Vec<_> = self.records.values().filter(|op| op.ended.is_some_and(|ended| ended >= from)).collect();
        records.sort_by_key(|operator| operator.ended);
        records
    }

    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.counts.iter().map(|((desc, event), count)| (*desc, *event, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::super::regions::tests::region;
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const START: Nanos = 1_782_036_000 * SECOND;

    fn transfer(origin: TransferOrigin) -> LeaderTransfer {
        let to = Peer { id: 442, store_id: 2 };
        LeaderTransfer::new(origin, &region(44, "", "", 1), to, START + SECOND / 10, START, 60 * SECOND)
    }

    #[test]
    fn operator_is_formatted_like_in_pds_log() {
        let operator = transfer(TransferOrigin::Admin);
        assert_eq!(
            operator.to_string(),
            "admin-transfer-leader {transfer leader: store 1 to 2} (kind:admin,leader, region:44(60, 5), \
             createAt:2026-06-21 10:00:00.1 +0000 UTC m=+0.100000000, startAt:2026-06-21 10:00:00.1 +0000 UTC m=+0.100000000, \
             currentStep:0, size:92, steps:[0:{transfer leader from store 1 to store 2}], timeout:[1m0s])"
        );
        assert_eq!(
            serde_json::to_string(&transfer(TransferOrigin::Evict { targets: vec![2, 3] }).answer()).unwrap(),
            r#"{"desc":"evict-leader-scheduler","brief":"evict leader: from store 1 to one in [2 3], or to 2 (for compatibility)","region_id":44,"region_epoch":{"conf_ver":5,"version":60},"kind":256,"timeout":"1m0s","status":1}"#
        );
    }

    #[test]
    fn operator_ends_when_the_leader_moved_and_not_before() {
        let mut operators = Operators::default();
        assert!(operators.add(transfer(TransferOrigin::Admin)).is_some());
        assert!(operators.add(transfer(TransferOrigin::Admin)).is_none());
        assert!(operators.observe(&region(44, "", "", 1), START).is_none());
        assert_eq!(operators.orders([43, 44].into_iter()).count(), 1);
        // A transfer to any other store leaves an administrator's request incomplete, but completes an eviction.
        assert!(operators.observe(&region(44, "", "", 3), START).is_none());
        let done = operators.observe(&region(44, "", "", 2), START + SECOND).unwrap();
        assert!(done.with_status().starts_with("status: SUCCESS, operator: admin-transfer-leader {"));
        assert!(done.to_string().contains("currentStep:1"));
        assert!(done.to_string().ends_with(" finished"));
        assert_eq!(operators.running().count(), 0);

        assert!(operators.add(transfer(TransferOrigin::Evict { targets: vec![2, 3] })).is_some());
        assert_eq!(operators.observe(&region(44, "", "", 3), START).unwrap().status(), TransferStatus::Success);
    }

    #[test]
    fn operator_times_out_and_is_forgotten() {
        let mut operators = Operators::default();
        assert!(operators.add(transfer(TransferOrigin::Admin)).is_some());
        assert!(operators.expire(START + 60 * SECOND).is_empty());
        let late = operators.expire(START + 61 * SECOND);
        assert!(late[0].to_string().ends_with(" timeout"));
        assert_eq!(operators.latest(44).unwrap().status(), TransferStatus::Timeout);
        assert_eq!(operators.counts().find(|(_, event, _)| *event == "timeout"), Some(("admin-transfer-leader", "timeout", 1)));
        operators.forget_ended_before(START + 62 * SECOND);
        assert!(operators.latest(44).is_none());
    }
}
