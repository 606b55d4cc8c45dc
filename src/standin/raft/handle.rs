//! The way in to a running host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use raft::StateRole;
use raft::eraftpb::Message;
use tokio::sync::{broadcast, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::config::Machine;

/// Why a proposal was not answered by the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not applied: another host leads, or nobody does.
    #[error("not the leader")]
    NotLeader { leader_host: Option<u64> },
    /// Certainly not applied: leadership is just moving, the host is overloaded, or it has stopped.
    #[error("dropped")]
    Dropped,
    /// Certainly not applied: the disk is full.
    #[error("disk full")]
    DiskFull,
    /// It may have been applied, or may be later: leadership was lost while it was under way.
    #[error("unknown whether it was applied")]
    Unknown,
}

/// Why a linearizable read was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("not the leader")]
    NotLeader { leader_host: Option<u64> },
    #[error("unavailable")]
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

impl Role {
    /// As `/region/{id}` of TiKV spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Follower => "Follower",
            Self::PreCandidate => "PreCandidate",
            Self::Candidate => "Candidate",
            Self::Leader => "Leader",
        }
    }
}

impl From<StateRole> for Role {
    fn from(role: StateRole) -> Self {
        match role {
            StateRole::Follower => Self::Follower,
            StateRole::PreCandidate => Self::PreCandidate,
            StateRole::Candidate => Self::Candidate,
            StateRole::Leader => Self::Leader,
        }
    }
}

/// A peer of a group became something else, or learnt of another leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChange {
    pub group: u64,
    pub role: Role,
    pub term: u64,
    pub leader_peer: Option<u64>,
    pub leader_host: Option<u64>,
}

/// What a host knows of one group.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    pub group: u64,
    /// This host's peer.
    pub peer: u64,
    pub role: Role,
    pub term: u64,
    /// The peer voted for in this term, 0 = none.
    pub vote: u64,
    pub leader_peer: Option<u64>,
    pub leader_host: Option<u64>,
    pub commit: u64,
    pub commit_term: u64,
    pub applied: u64,
    /// Index and term of the entry before the first one kept in the log.
    pub truncated: (u64, u64),
    pub last_index: u64,
    /// The last entry on this host's disk.
    pub persisted: u64,
    /// True for the leader only when it may serve: an entry of its own term is committed.
    pub serving: bool,
    /// Progress of all peers, this one too; empty unless this peer leads.
    pub peers: BTreeMap<u64, PeerStatus>,
}

impl GroupStatus {
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
}

/// What a leader knows of a peer.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    pub host: u64,
    pub matched: u64,
    pub next_index: u64,
    /// `Probe`, `Replicate` or `Snapshot`.
    pub state: &'static str,
    pub paused: bool,
    pub pending_snapshot: u64,
    pub recent_active: bool,
    /// When a message of it last arrived in this process; none = never.
    pub heard: Option<Instant>,
}

pub(super) type Reply = oneshot::Sender<Result<Vec<u8>, ProposeError>>;
pub(super) type Read = Box<dyn FnOnce(Result<&dyn Machine, ReadError>) + Send>;

/// What the host's thread takes in.
pub(super) enum Input {
    Propose {
        group: u64,
        data: Vec<u8>,
        reply: Reply,
    },
    Read {
        group: u64,
        read: Read,
    },
    Peek {
        group: u64,
        read: Read,
    },
    Transfer {
        group: u64,
        to_host: u64,
    },
    Step {
        group: u64,
        message: Box<Message>,
    },
    /// Our link to a host stands.
    Connected {
        host: u64,
    },
    /// A host's link to us stands.
    Heard {
        host: u64,
        note: String,
    },
    /// Our link to a host broke.
    Lost {
        host: u64,
    },
    SnapshotSent {
        group: u64,
        peer: u64,
        arrived: bool,
    },
    SnapshotSaved {
        group: u64,
        index: u64,
        term: u64,
        bytes: u64,
        outcome: std::io::Result<()>,
    },
}

/// How a host is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Running,
    Stopped,
    Failed(String),
}

/// The way in to a running host. The host stops when the last handle is dropped.
#[derive(Clone)]
pub struct Handle {
    pub(super) id: u64,
    pub(super) inbox: SyncSender<Input>,
    pub(super) status: Arc<BTreeMap<u64, watch::Receiver<GroupStatus>>>,
    pub(super) notes: watch::Receiver<BTreeMap<u64, String>>,
    pub(super) events: broadcast::Sender<RoleChange>,
    pub(super) fate: watch::Receiver<Fate>,
    pub(super) full: Arc<AtomicBool>,
    pub(super) cancel: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) _last: Arc<DropGuard>,
}

impl Handle {
    /// This host's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Proposes a command to the group's leader, which must be this host, and waits for the machine's answer. Ends within two
    /// election time-outs when the quorum is lost.
    ///
    /// # Errors
    /// See [`ProposeError`]: all but `Unknown` mean that the command is certainly not applied.
    pub async fn propose(&self, group: u64, data: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.try_send(Input::Propose { group, data, reply }).map_err(|_| ProposeError::Dropped)?;
        // The thread went away with the proposal in its hands.
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// A linearizable read of the group's machine, which must be an `M`. This host must lead the group; no entry is written.
    ///
    /// # Errors
    /// When this host does not lead, loses its leadership meanwhile, or has stopped.
    pub async fn read<M: Machine, R: Send + 'static>(
        &self,
        group: u64,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let (read, answer) = reader(look);
        self.inbox.try_send(Input::Read { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// Waits until a read of what was written before this call is possible; a [`Handle::read`] without looking.
    ///
    /// # Errors
    /// As [`Handle::read`].
    pub async fn read_barrier(&self, group: u64) -> Result<(), ReadError> {
        let (tell, answer) = oneshot::channel();
        let read: Read = Box::new(move |machine| {
            let _ = tell.send(machine.map(|_| ()));
        });
        self.inbox.try_send(Input::Read { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// Looks at this host's own copy, whoever leads: what it shows was committed, but may be old.
    ///
    /// # Errors
    /// When the host has stopped or is overloaded.
    pub async fn peek<M: Machine, R: Send + 'static>(
        &self,
        group: u64,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let (read, answer) = reader(look);
        self.inbox.try_send(Input::Peek { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// What this host knows of a group; answers even when the disk hangs.
    #[must_use]
    pub fn status(&self, group: u64) -> Option<GroupStatus> {
        self.status.get(&group).map(|status| status.borrow().clone())
    }

    /// All groups, by id.
    #[must_use]
    pub fn statuses(&self) -> Vec<GroupStatus> {
        self.status.values().map(|status| status.borrow().clone()).collect()
    }

    /// What another host says about itself (its `HostConfig::note`); none until it has greeted this one.
    #[must_use]
    pub fn note(&self, host: u64) -> Option<String> {
        self.notes.borrow().get(&host).cloned()
    }

    /// All notes heard so far, by host.
    #[must_use]
    pub fn notes(&self) -> watch::Receiver<BTreeMap<u64, String>> {
        self.notes.clone()
    }

    /// To wait for a change of [`Handle::status`].
    #[must_use]
    pub fn watch(&self, group: u64) -> Option<watch::Receiver<GroupStatus>> {
        self.status.get(&group).cloned()
    }

    /// Asks for the leadership of a group to move; nothing happens unless this host leads it. Watch the status for the outcome.
    pub fn transfer_leader(&self, group: u64, to_host: u64) {
        let _ = self.inbox.try_send(Input::Transfer { group, to_host });
    }

    /// Changes of role and leader from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<RoleChange> {
        self.events.subscribe()
    }

    /// True while the log cannot be written for want of room: the host takes no part in consensus then.
    #[must_use]
    pub fn disk_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Ends the host, and returns when its port is free. Nothing is lost that was promised; proposals under way are `Unknown`.
    pub async fn stop(&self) {
        self.cancel.cancel();
        self.failed().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until the host ended: none = it was stopped, else why it could not go on.
    pub async fn failed(&self) -> Option<String> {
        let mut fate = self.fate.clone();
        let last = fate.wait_for(|fate| *fate != Fate::Running).await.map(|fate| fate.clone());
        match last {
            Ok(Fate::Failed(why)) => Some(why),
            Ok(_) => None,
            Err(_) => Some("the host's thread died".to_owned()),
        }
    }
}

type Answer<R> = oneshot::Receiver<Result<R, ReadError>>;

fn reader<M: Machine, R: Send + 'static>(look: impl FnOnce(&M) -> R + Send + 'static) -> (Read, Answer<R>) {
    let (tell, answer) = oneshot::channel();
    let read: Read = Box::new(move |machine| {
        let answer = machine.and_then(|machine| {
            let machine: &dyn std::any::Any = machine;
            machine.downcast_ref::<M>().map(look).ok_or(ReadError::Unavailable)
        });
        let _ = tell.send(answer);
    });
    (read, answer)
}
