//! Handle of a running host.

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

use super::config::StateMachine;

/// Reason why a proposal was not answered by the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not applied: another host leads, or there is no leader.
    #[error("not the leader")]
    NotLeader { leader_host: Option<u64> },
    /// Certainly not applied: leadership is being transferred, the host is overloaded, or it has stopped.
    #[error("dropped")]
    Dropped,
    /// Certainly not applied: the disk is full.
    #[error("disk full")]
    DiskFull,
    /// Possibly applied now or later: leadership was lost in the meantime.
    #[error("unknown whether it was applied")]
    Unknown,
}

/// Reason why a linearizable read was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("not the leader")]
    NotLeader { leader_host: Option<u64> },
    #[error("unavailable")]
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaftRole {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

impl RaftRole {
    /// Name of the role in TiKV's `/region/{id}`.
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

impl From<StateRole> for RaftRole {
    fn from(role: StateRole) -> Self {
        match role {
            StateRole::Follower => Self::Follower,
            StateRole::PreCandidate => Self::PreCandidate,
            StateRole::Candidate => Self::Candidate,
            StateRole::Leader => Self::Leader,
        }
    }
}

/// Change of a peer's role or of its known leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChange {
    pub group: u64,
    pub role: RaftRole,
    pub term: u64,
    pub leader_peer: Option<u64>,
    pub leader_host: Option<u64>,
}

/// A host's view of one group.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    pub group: u64,
    /// Id of this host's peer.
    pub peer: u64,
    pub role: RaftRole,
    pub term: u64,
    /// Peer that this peer voted for in this term; 0 means no vote.
    pub vote: u64,
    pub leader_peer: Option<u64>,
    pub leader_host: Option<u64>,
    pub commit: u64,
    pub commit_term: u64,
    pub applied: u64,
    /// Index and term of the entry before the first one in the log.
    pub truncated: (u64, u64),
    pub last_index: u64,
    /// Index of the last entry on this host's disk.
    pub persisted: u64,
    /// True only for a leader that may serve: an entry of its own term is committed.
    pub serving: bool,
    /// Progress of all peers, including this one; empty unless this peer leads.
    pub peers: BTreeMap<u64, PeerStatus>,
}

impl GroupStatus {
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == RaftRole::Leader
    }
}

/// A leader's view of a peer.
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
    /// Time at which the last message of the peer arrived in this process; `None` if no message has arrived.
    pub heard: Option<Instant>,
}

pub(super) type ProposalReply = oneshot::Sender<Result<Vec<u8>, ProposeError>>;
pub(super) type ReadReply = Box<dyn FnOnce(Result<&dyn StateMachine, ReadError>) + Send>;

/// Input of the host's thread.
pub(super) enum Input {
    Propose {
        group: u64,
        data: Vec<u8>,
        reply: ProposalReply,
    },
    Read {
        group: u64,
        read: ReadReply,
    },
    Peek {
        group: u64,
        read: ReadReply,
    },
    Transfer {
        group: u64,
        to_host: u64,
    },
    Step {
        group: u64,
        message: Box<Message>,
    },
    /// The link to a host was established.
    Connected {
        host: u64,
    },
    /// A host's link to this one was established.
    Heard {
        host: u64,
        note: String,
    },
    /// The link to a host broke.
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

/// State of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostState {
    Running,
    Stopped,
    Failed(String),
}

/// Handle of a running host. The host stops when the last handle is dropped.
#[derive(Clone)]
pub struct Handle {
    pub(super) id: u64,
    pub(super) inbox: SyncSender<Input>,
    pub(super) status: Arc<BTreeMap<u64, watch::Receiver<GroupStatus>>>,
    pub(super) notes: watch::Receiver<BTreeMap<u64, String>>,
    pub(super) events: broadcast::Sender<RoleChange>,
    pub(super) fate: watch::Receiver<HostState>,
    pub(super) full: Arc<AtomicBool>,
    pub(super) cancel: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) _last: Arc<DropGuard>,
}

impl Handle {
    /// Id of this host.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Proposes a command to the group's leader, which must be this host, and waits for the machine's answer. Ends within two election
    /// time-outs when the quorum is lost.
    ///
    /// # Errors
    /// See [`ProposeError`]: all but `Unknown` mean that the command is certainly not applied.
    pub async fn propose(&self, group: u64, data: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.try_send(Input::Propose { group, data, reply }).map_err(|_| ProposeError::Dropped)?;
        // The thread ended while it held the proposal.
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Linearizable read of the group's machine, which must be an `M`. This host must lead the group; no entry is written.
    ///
    /// # Errors
    /// This host does not lead, loses its leadership in the meantime, or has stopped.
    pub async fn read<M: StateMachine, R: Send + 'static>(
        &self,
        group: u64,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let (read, answer) = reader(look);
        self.inbox.try_send(Input::Read { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// Waits until a read would see everything written before this call; a [`Handle::read`] without a result.
    ///
    /// # Errors
    /// See [`Handle::read`].
    pub async fn read_barrier(&self, group: u64) -> Result<(), ReadError> {
        let (tell, answer) = oneshot::channel();
        let read: ReadReply = Box::new(move |machine| {
            let _ = tell.send(machine.map(|_| ()));
        });
        self.inbox.try_send(Input::Read { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// Reads this host's own copy, independent of the leader. The data was committed, but may be outdated.
    ///
    /// # Errors
    /// The host has stopped or is overloaded.
    pub async fn peek<M: StateMachine, R: Send + 'static>(
        &self,
        group: u64,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let (read, answer) = reader(look);
        self.inbox.try_send(Input::Peek { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// This host's view of a group; available even when the disk hangs.
    #[must_use]
    pub fn status(&self, group: u64) -> Option<GroupStatus> {
        self.status.get(&group).map(|status| status.borrow().clone())
    }

    /// Status of all groups, by id.
    #[must_use]
    pub fn statuses(&self) -> Vec<GroupStatus> {
        self.status.values().map(|status| status.borrow().clone()).collect()
    }

    /// Note of another host (its `HostConfig::note`). Returns `None` until it has greeted this one.
    #[must_use]
    pub fn note(&self, host: u64) -> Option<String> {
        self.notes.borrow().get(&host).cloned()
    }

    /// All notes received so far, by host.
    #[must_use]
    pub fn notes(&self) -> watch::Receiver<BTreeMap<u64, String>> {
        self.notes.clone()
    }

    /// Receiver for changes of [`Handle::status`].
    #[must_use]
    pub fn watch(&self, group: u64) -> Option<watch::Receiver<GroupStatus>> {
        self.status.get(&group).cloned()
    }

    /// Requests a transfer of a group's leadership; without effect unless this host leads it. The status shows the outcome.
    pub fn transfer_leader(&self, group: u64, to_host: u64) {
        let _ = self.inbox.try_send(Input::Transfer { group, to_host });
    }

    /// Changes of role and leader from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<RoleChange> {
        self.events.subscribe()
    }

    /// Returns true while the log cannot be written because the disk is full. The host then takes no part in the consensus.
    #[must_use]
    pub fn disk_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Ends the host, and returns when its port is free. Acknowledged data is not lost; proposals in progress are `Unknown`.
    pub async fn stop(&self) {
        self.cancel.cancel();
        self.failed().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until the host has ended. Returns `None` if it was stopped, otherwise the reason why it could not continue.
    pub async fn failed(&self) -> Option<String> {
        let mut fate = self.fate.clone();
        let last = fate.wait_for(|fate| *fate != HostState::Running).await.map(|fate| fate.clone());
        match last {
            Ok(HostState::Failed(why)) => Some(why),
            Ok(_) => None,
            Err(_) => Some("the host's thread died".to_owned()),
        }
    }
}

type Answer<R> = oneshot::Receiver<Result<R, ReadError>>;

fn reader<M: StateMachine, R: Send + 'static>(look: impl FnOnce(&M) -> R + Send + 'static) -> (ReadReply, Answer<R>) {
    let (tell, answer) = oneshot::channel();
    let read: ReadReply = Box::new(move |machine| {
        let answer = machine.and_then(|machine| {
            let machine: &dyn std::any::Any = machine;
            machine.downcast_ref::<M>().map(look).ok_or(ReadError::Unavailable)
        });
        let _ = tell.send(answer);
    });
    (read, answer)
}
