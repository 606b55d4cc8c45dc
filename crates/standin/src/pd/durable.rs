//! Durable state of PD: the state that every member holds, and the commands that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::timing::Nanos;
use crate::wire::{Label, StoreHeartbeat};

/// Names of the schedulers that a new cluster has.
pub(crate) const DEFAULT_SCHEDULERS: [&str; 5] = [
    "balance-leader-scheduler",
    "balance-region-scheduler",
    "balance-hot-region-scheduler",
    "evict-slow-store-scheduler",
    "evict-stopping-store-scheduler",
];

/// Name of the scheduler that transfers leaders away from chosen stores.
pub(crate) const EVICT_LEADER: &str = "evict-leader-scheduler";

/// Data about a store that the store sent when it registered with PD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreMeta {
    pub id: u64,
    pub address: String,
    pub status_address: String,
    pub version: String,
    pub labels: Vec<Label>,
    /// Start time of the store in Unix seconds.
    pub start_timestamp: i64,
    pub deploy_path: String,
}

/// Formats the store like PD's log prints the protobuf message.
impl fmt::Display for StoreMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, address, status_address, version, start_timestamp, deploy_path, .. } = self;
        write!(f, "id:{id} address:{address:?} ")?;
        for Label { key, value } in &self.labels {
            write!(f, "labels:<key:{key:?} value:{value:?} > ")?;
        }
        write!(f, "version:{version:?} peer_address:{address:?} status_address:{status_address:?} ")?;
        write!(f, "start_timestamp:{start_timestamp} deploy_path:{deploy_path:?} ")
    }
}

impl From<&StoreHeartbeat> for StoreMeta {
    fn from(heartbeat: &StoreHeartbeat) -> Self {
        Self {
            id: heartbeat.id,
            address: heartbeat.address.clone(),
            status_address: heartbeat.status_address.clone(),
            version: heartbeat.version.clone(),
            labels: heartbeat.labels.clone(),
            start_timestamp: heartbeat.start_timestamp,
            deploy_path: heartbeat.deploy_path.clone(),
        }
    }
}

/// Data that a running PD member publishes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberMeta {
    pub client_url: String,
    pub deploy_path: String,
    pub binary_version: String,
}

/// Replicated state of PD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    pub bootstrapped_at: Option<Nanos>,
    pub stores: BTreeMap<u64, StoreMeta>,
    /// Silent stores with the time of their last heartbeat. A new leader therefore does not treat these stores as alive.
    pub silent: BTreeMap<u64, Nanos>,
    /// Stores from which the evict-leader scheduler removes leaders.
    pub evicting: BTreeSet<u64>,
    /// Names of the running schedulers except the evict-leader scheduler.
    pub schedulers: BTreeSet<String>,
    /// Registered PD members by member id.
    pub members: BTreeMap<u64, MemberMeta>,
    /// Priorities by member id. The leadership moves to the member with the highest priority.
    pub priorities: BTreeMap<u64, i32>,
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            bootstrapped_at: None,
            stores: BTreeMap::new(),
            silent: BTreeMap::new(),
            evicting: BTreeSet::new(),
            schedulers: DEFAULT_SCHEDULERS.into_iter().map(str::to_owned).collect(),
            members: BTreeMap::new(),
            priorities: BTreeMap::new(),
        }
    }
}

/// Change of the replicated state: one entry of the Raft log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateCommand {
    PutStore { store: StoreMeta, at: Nanos },
    StoreSilent { store: u64, since: Nanos },
    StoreHeard { store: u64 },
    PutMember { id: u64, member: MemberMeta },
    SetPriority { id: u64, priority: i32 },
    EvictLeader { store: u64 },
    StopEvicting { store: u64 },
    AddScheduler { name: String },
    RemoveScheduler { name: String },
}

/// Effect of a [`StateCommand`] on the replicated state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandEffect {
    Done,
    /// The object to be added existed already.
    Existed,
    NotFound,
    /// The command removed the last store of the scheduler, and with that store the scheduler itself.
    LastRemoved,
}

impl Durable {
    /// Applies a command to this state. The result is the same on every member, because no clock and no randomness are used.
    pub fn apply(&mut self, command: StateCommand) -> CommandEffect {
        match command {
            StateCommand::PutStore { store, at } => {
                self.bootstrapped_at.get_or_insert(at);
                self.silent.remove(&store.id);
                self.stores.insert(store.id, store);
                CommandEffect::Done
            }
            StateCommand::StoreSilent { store, since } => {
                if !self.stores.contains_key(&store) {
                    return CommandEffect::NotFound;
                }
                self.silent.insert(store, since);
                CommandEffect::Done
            }
            StateCommand::StoreHeard { store } => self.silent.remove(&store).map_or(CommandEffect::NotFound, |_| CommandEffect::Done),
            StateCommand::PutMember { id, member } => {
                self.members.insert(id, member);
                CommandEffect::Done
            }
            StateCommand::SetPriority { id, priority } => {
                self.priorities.insert(id, priority);
                CommandEffect::Done
            }
            StateCommand::EvictLeader { store } => {
                if !self.stores.contains_key(&store) {
                    return CommandEffect::NotFound;
                }
                let existed = !self.evicting.is_empty();
                self.evicting.insert(store);
                if existed { CommandEffect::Existed } else { CommandEffect::Done }
            }
            StateCommand::StopEvicting { store } => match (self.evicting.remove(&store), self.evicting.is_empty()) {
                (false, _) => CommandEffect::NotFound,
                (true, false) => CommandEffect::Done,
                (true, true) => CommandEffect::LastRemoved,
            },
            StateCommand::AddScheduler { name } => {
                if self.schedulers.insert(name) {
                    CommandEffect::Done
                } else {
                    CommandEffect::Existed
                }
            }
            StateCommand::RemoveScheduler { name } => {
                let found =
                    if name == EVICT_LEADER { !std::mem::take(&mut self.evicting).is_empty() } else { self.schedulers.remove(&name) };
                if found { CommandEffect::Done } else { CommandEffect::NotFound }
            }
        }
    }

    /// Returns the names of all schedulers, sorted.
    #[must_use]
    pub fn scheduler_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.schedulers.iter().cloned().collect();
        if !self.evicting.is_empty() {
            names.push(EVICT_LEADER.to_owned());
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(id: u64) -> StoreMeta {
        StoreMeta {
            id,
            address: format!("tikv{id}:20160"),
            status_address: format!("tikv{id}:20180"),
            version: "8.5.7".into(),
            labels: Vec::new(),
            start_timestamp: 1,
            deploy_path: "/".into(),
        }
    }

    #[test]
    fn evict_leader_scheduler_exists_as_long_as_its_stores() {
        let mut state = Durable::default();
        assert_eq!(state.apply(StateCommand::EvictLeader { store: 1 }), CommandEffect::NotFound);
        for id in 1..=3 {
            state.apply(StateCommand::PutStore { store: store(id), at: 10 + i64::try_from(id).unwrap() });
        }
        assert_eq!(state.bootstrapped_at, Some(11));
        assert_eq!(state.apply(StateCommand::EvictLeader { store: 1 }), CommandEffect::Done);
        assert_eq!(state.apply(StateCommand::EvictLeader { store: 1 }), CommandEffect::Existed);
        assert_eq!(state.apply(StateCommand::EvictLeader { store: 2 }), CommandEffect::Existed);
        assert_eq!(state.scheduler_names().len(), 6);
        assert_eq!(state.apply(StateCommand::StopEvicting { store: 3 }), CommandEffect::NotFound);
        assert_eq!(state.apply(StateCommand::StopEvicting { store: 1 }), CommandEffect::Done);
        assert_eq!(state.apply(StateCommand::StopEvicting { store: 2 }), CommandEffect::LastRemoved);
        assert_eq!(state.scheduler_names().len(), 5);
        assert_eq!(state.apply(StateCommand::RemoveScheduler { name: EVICT_LEADER.into() }), CommandEffect::NotFound);
    }

    #[test]
    fn state_round_trips() {
        let mut state = Durable::default();
        state.apply(StateCommand::PutStore { store: store(u64::MAX), at: i64::MAX });
        state.apply(StateCommand::StoreSilent { store: u64::MAX, since: 7 });
        state.apply(StateCommand::SetPriority { id: 1 << 63, priority: 5 });
        let text = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<Durable>(&text).unwrap(), state);
        assert_eq!(state.apply(StateCommand::StoreHeard { store: u64::MAX }), CommandEffect::Done);
        assert!(state.silent.is_empty());
    }
}
