//! Handle of a running Raft host.

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

/// Reason why a proposal got no answer from the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The proposal is certainly not applied: another host leads, or no host leads.
    #[error("not the leader")]
    NotLeader { leader_host: Option<u64> },
    /// The proposal is certainly not applied: the leadership is being transferred, or the host is overloaded or stopped.
    #[error("dropped")]
    Dropped,
    /// The proposal is certainly not applied: the disk is full.
    #[error("disk full")]
    DiskFull,
    /// The proposal may be applied, now or later: this host lost the leadership in the meantime.
    #[error("unknown whether it was applied")]
    Unknown,
}

/// Reason why a linearizable read got no answer.
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
    /// Returns the name of the role in the answer of TiKV's `/region/{id}`.
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

/// Event: the role of a peer, or the leader that the peer knows, has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChange {
    pub group: u64,
    pub role: RaftRole,
    pub term: u64,
    pub leader_peer: Option<u64>,
    pub leader_host: Option<u64>,
}

/// Status of one Raft group as this host knows it.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    pub group: u64,
    /// Id of the group's peer on this host.
    pub peer: u64,
    pub role: RaftRole,
    pub term: u64,
    /// Id of the peer that got the vote of this host's peer in the current term; 0 means no vote.
    pub vote: u64,
    pub leader_peer: Option<u64>,
    pub leader_host: Option<u64>,
    pub commit: u64,
    pub commit_term: u64,
    pub applied: u64,
    /// Index and term of the entry before the first entry in the log.
    pub truncated: (u64, u64),
    pub last_index: u64,
    /// Index of the last entry on the disk of this host.
    pub persisted: u64,
    /// True if this host's peer leads the group and an entry of its own term is committed. Only such a leader may serve.
    pub serving: bool,
    /// Replication progress of all peers by peer id, including the leader itself. Empty unless this host's peer leads.
    pub peers: BTreeMap<u64, PeerStatus>,
}

impl GroupStatus {
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == RaftRole::Leader
    }
}

/// Replication progress of one peer as the leader knows it.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    pub host: u64,
    pub matched: u64,
    pub next_index: u64,
    /// State of the replication to the peer: `Probe`, `Replicate` or `Snapshot`.
    pub state: &'static str,
    pub paused: bool,
    pub pending_snapshot: u64,
    pub recent_active: bool,
    /// Time at which the last message of the peer arrived in this process; `None` if no message has arrived.
    pub heard: Option<Instant>,
}

pub(super) type ProposalReply = oneshot::Sender<Result<Vec<u8>, ProposeError>>;
pub(super) type ReadReply = Box<dyn FnOnce(Result<&dyn StateMachine, ReadError>) + Send>;

/// Message to the thread of the host: a request, a network message or an event.
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
    /// The link from this host to another host was established.
    Connected {
        host: u64,
    },
    /// The link from another host to this host was established.
    Heard {
        host: u64,
        note: String,
    },
    /// The link from this host to another host broke.
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

/// Lifecycle state of a Raft host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostState {
    Running,
    Stopped,
    Failed(String),
}

/// Handle of a running Raft host. The host stops when the last clone of the handle is dropped.
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
    /// Returns the id of this host.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Proposes a command to the group's leader, which must be this host, and returns the answer of the state machine. If the quorum is
    /// lost, the call ends within two election timeouts.
    ///
    /// # Errors
    /// Returns a [`ProposeError`]. All variants except `Unknown` mean that the command is certainly not applied.
    pub async fn propose(&self, group: u64, data: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.try_send(Input::Propose { group, data, reply }).map_err(|_| ProposeError::Dropped)?;
        // The thread ended before it answered the proposal.
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Reads the group's state machine, of type `M`, linearizably. This host must lead the group. The read writes no log entry.
    ///
    /// # Errors
    /// Returns an error if this host does not lead, loses the leadership in the meantime, or has stopped.
    pub async fn read<M: StateMachine, R: Send + 'static>(
        &self,
        group: u64,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let (read, answer) = reader(look);
        self.inbox.try_send(Input::Read { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// Waits until a read on this host reflects all writes acknowledged before the call. Works like [`Handle::read`] without a result.
    ///
    /// # Errors
    /// Returns the errors of [`Handle::read`].
    pub async fn read_barrier(&self, group: u64) -> Result<(), ReadError> {
        let (tell, answer) = oneshot::channel();
        let read: ReadReply = Box::new(move |machine| {
            let _ = tell.send(machine.map(|_| ()));
        });
        self.inbox.try_send(Input::Read { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// Reads the copy of the state machine on this host without contacting the leader. The data is committed but may be outdated.
    ///
    /// # Errors
    /// Returns an error if the host has stopped or is overloaded.
    pub async fn peek<M: StateMachine, R: Send + 'static>(
        &self,
        group: u64,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let (read, answer) = reader(look);
        self.inbox.try_send(Input::Peek { group, read }).map_err(|_| ReadError::Unavailable)?;
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// Returns this host's status of a group, even while the disk hangs. Returns `None` for an unknown group.
    #[must_use]
    pub fn status(&self, group: u64) -> Option<GroupStatus> {
        self.status.get(&group).map(|status| status.borrow().clone())
    }

    /// Returns the status of all groups in the order of their ids.
    #[must_use]
    pub fn statuses(&self) -> Vec<GroupStatus> {
        self.status.values().map(|status| status.borrow().clone()).collect()
    }

    /// Returns the `HostConfig::note` of another host. Returns `None` until that host has connected to this host.
    #[must_use]
    pub fn note(&self, host: u64) -> Option<String> {
        self.notes.borrow().get(&host).cloned()
    }

    /// Returns a receiver for the notes of other hosts, by host id.
    #[must_use]
    pub fn notes(&self) -> watch::Receiver<BTreeMap<u64, String>> {
        self.notes.clone()
    }

    /// Returns a receiver for changes of [`Handle::status`]. Returns `None` for an unknown group.
    #[must_use]
    pub fn watch(&self, group: u64) -> Option<watch::Receiver<GroupStatus>> {
        self.status.get(&group).cloned()
    }

    /// Requests a transfer of a group's leadership to the host `to_host`. Does nothing unless this host leads. The status shows the
    /// outcome.
    pub fn transfer_leader(&self, group: u64, to_host: u64) {
        let _ = self.inbox.try_send(Input::Transfer { group, to_host });
    }

    /// Returns a receiver for all later changes of role and leader.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<RoleChange> {
        self.events.subscribe()
    }

    /// Returns true while the log cannot be written because the disk is full. The host then takes no part in elections and replication.
    #[must_use]
    pub fn disk_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Stops the host, and returns when the port of the host is free. Acknowledged data is not lost. Proposals in progress end as
    /// `Unknown`.
    pub async fn stop(&self) {
        self.cancel.cancel();
        self.failed().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until the host has ended. Returns `None` if the host was stopped, otherwise the reason of the failure.
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
