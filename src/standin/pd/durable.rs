//! What PD never forgets: the state that every member holds and the commands that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::timing::Nanos;
use crate::standin::wire::{Label, StoreHeartbeat};

/// The schedulers of a new cluster.
pub const DEFAULT_SCHEDULERS: [&str; 5] = [
    "balance-leader-scheduler",
    "balance-region-scheduler",
    "balance-hot-region-scheduler",
    "evict-slow-store-scheduler",
    "evict-stopping-store-scheduler",
];

/// The scheduler that empties stores of leaders.
pub const EVICT_LEADER: &str = "evict-leader-scheduler";

/// A store as it registered itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreMeta {
    pub id: u64,
    pub address: String,
    pub status_address: String,
    pub version: String,
    pub labels: Vec<Label>,
    /// Unix seconds.
    pub start_timestamp: i64,
    pub deploy_path: String,
}

/// As protobuf prints it in PD's log.
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

/// What a member says of itself once it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberMeta {
    pub client_url: String,
    pub deploy_path: String,
    pub binary_version: String,
}

/// The replicated state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    pub bootstrapped_at: Option<Nanos>,
    pub stores: BTreeMap<u64, StoreMeta>,
    /// Stores that fell silent, with their last heartbeat: a new leader must not take them for living ones.
    pub silent: BTreeMap<u64, Nanos>,
    /// Stores that the evict-leader scheduler empties.
    pub evicting: BTreeSet<u64>,
    /// The other schedulers.
    pub schedulers: BTreeSet<String>,
    /// By member id.
    pub members: BTreeMap<u64, MemberMeta>,
    /// By member id. The leadership moves to the member of the highest priority.
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

/// A change, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
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

/// What a command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// Something of the kind was there already.
    Existed,
    NotFound,
    /// The last store of the scheduler left, and the scheduler with it.
    LastRemoved,
}

impl Durable {
    /// Carries out a command. The same on every member: no clock, no randomness.
    pub fn apply(&mut self, command: Command) -> Outcome {
        match command {
            Command::PutStore { store, at } => {
                self.bootstrapped_at.get_or_insert(at);
                self.silent.remove(&store.id);
                self.stores.insert(store.id, store);
                Outcome::Done
            }
            Command::StoreSilent { store, since } => {
                if !self.stores.contains_key(&store) {
                    return Outcome::NotFound;
                }
                self.silent.insert(store, since);
                Outcome::Done
            }
            Command::StoreHeard { store } => self.silent.remove(&store).map_or(Outcome::NotFound, |_| Outcome::Done),
            Command::PutMember { id, member } => {
                self.members.insert(id, member);
                Outcome::Done
            }
            Command::SetPriority { id, priority } => {
                self.priorities.insert(id, priority);
                Outcome::Done
            }
            Command::EvictLeader { store } => {
                if !self.stores.contains_key(&store) {
                    return Outcome::NotFound;
                }
                let existed = !self.evicting.is_empty();
                self.evicting.insert(store);
                if existed { Outcome::Existed } else { Outcome::Done }
            }
            Command::StopEvicting { store } => match (self.evicting.remove(&store), self.evicting.is_empty()) {
                (false, _) => Outcome::NotFound,
                (true, false) => Outcome::Done,
                (true, true) => Outcome::LastRemoved,
            },
            Command::AddScheduler { name } => {
                if self.schedulers.insert(name) {
                    Outcome::Done
                } else {
                    Outcome::Existed
                }
            }
            Command::RemoveScheduler { name } => {
                let found =
                    if name == EVICT_LEADER { !std::mem::take(&mut self.evicting).is_empty() } else { self.schedulers.remove(&name) };
                if found { Outcome::Done } else { Outcome::NotFound }
            }
        }
    }

    /// All schedulers there are, sorted.
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
    fn the_evict_leader_scheduler_lives_as_long_as_its_stores() {
        let mut state = Durable::default();
        assert_eq!(state.apply(Command::EvictLeader { store: 1 }), Outcome::NotFound);
        for id in 1..=3 {
            state.apply(Command::PutStore { store: store(id), at: 10 + i64::try_from(id).unwrap() });
        }
        assert_eq!(state.bootstrapped_at, Some(11));
        assert_eq!(state.apply(Command::EvictLeader { store: 1 }), Outcome::Done);
        assert_eq!(state.apply(Command::EvictLeader { store: 1 }), Outcome::Existed);
        assert_eq!(state.apply(Command::EvictLeader { store: 2 }), Outcome::Existed);
        assert_eq!(state.scheduler_names().len(), 6);
        assert_eq!(state.apply(Command::StopEvicting { store: 3 }), Outcome::NotFound);
        assert_eq!(state.apply(Command::StopEvicting { store: 1 }), Outcome::Done);
        assert_eq!(state.apply(Command::StopEvicting { store: 2 }), Outcome::LastRemoved);
        assert_eq!(state.scheduler_names().len(), 5);
        assert_eq!(state.apply(Command::RemoveScheduler { name: EVICT_LEADER.into() }), Outcome::NotFound);
    }

    #[test]
    fn the_state_survives_its_written_form() {
        let mut state = Durable::default();
        state.apply(Command::PutStore { store: store(u64::MAX), at: i64::MAX });
        state.apply(Command::StoreSilent { store: u64::MAX, since: 7 });
        state.apply(Command::SetPriority { id: 1 << 63, priority: 5 });
        let text = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<Durable>(&text).unwrap(), state);
        assert_eq!(state.apply(Command::StoreHeard { store: u64::MAX }), Outcome::Done);
        assert!(state.silent.is_empty());
    }
}
