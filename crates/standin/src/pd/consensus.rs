//! Replicated state of PD: one Raft group over all members, on top of the Raft host.

use std::sync::Arc;

use tokio::sync::watch;

use super::durable::{CommandEffect, Durable, StateCommand};
use crate::raft::{GroupStatus, Handle, ProposeError, ReadError, StateMachine};

/// Id of the only Raft group of PD.
pub const GROUP: u64 = 1;

/// State machine of this member: the local copy of the replicated state. Publishes the state after every change.
pub(crate) struct Replica {
    state: Durable,
    publish: watch::Sender<Arc<Durable>>,
}

impl Replica {
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<Arc<Durable>>) {
        let (publish, published) = watch::channel(Arc::default());
        (Self { state: Durable::default(), publish }, published)
    }

    fn publish(&self) {
        self.publish.send_replace(Arc::new(self.state.clone()));
    }
}

impl StateMachine for Replica {
    fn apply(&mut self, _index: u64, entry: &[u8]) -> Vec<u8> {
        // All members get the same bytes, so all of them ignore an unreadable entry.
        let Ok(command) = serde_json::from_slice::<StateCommand>(entry) else { return Vec::new() };
        let outcome = self.state.apply(command);
        self.publish();
        serde_json::to_vec(&outcome).unwrap_or_default()
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.state = serde_json::from_slice(snapshot).map_err(|error| format!("not a state of PD: {error}"))?;
        self.publish();
        Ok(())
    }
}

/// Client of the replicated state of PD.
#[derive(Clone)]
pub struct Consensus {
    handle: Handle,
    durable: watch::Receiver<Arc<Durable>>,
    status: watch::Receiver<GroupStatus>,
}

impl Consensus {
    /// Creates the client. Returns `None` if the Raft host behind `handle` does not have the group.
    #[must_use]
    pub fn new(handle: Handle, durable: watch::Receiver<Arc<Durable>>) -> Option<Self> {
        let status = handle.watch(GROUP)?;
        Some(Self { handle, durable, status })
    }

    /// Commits a command to the replicated state. The state that this member publishes afterwards includes the effect of the command.
    ///
    /// # Errors
    /// Returns the errors of [`Handle::propose`].
    pub async fn commit(&self, command: &StateCommand) -> Result<CommandEffect, ProposeError> {
        let entry = serde_json::to_vec(command).map_err(|_| ProposeError::Dropped)?;
        let answer = self.handle.propose(GROUP, entry).await?;
        serde_json::from_slice(&answer).map_err(|_| ProposeError::Unknown)
    }

    /// Waits until this member, as leader, has applied everything committed before the call.
    ///
    /// # Errors
    /// Returns the errors of [`Handle::read_barrier`].
    pub async fn barrier(&self) -> Result<(), ReadError> {
        self.handle.read_barrier(GROUP).await
    }

    /// Returns this member's copy of the replicated state, which may be outdated.
    #[must_use]
    pub fn durable(&self) -> Arc<Durable> {
        self.durable.borrow().clone()
    }

    #[must_use]
    pub fn watch_durable(&self) -> watch::Receiver<Arc<Durable>> {
        self.durable.clone()
    }

    /// Returns a receiver for this member's view of the Raft group.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<GroupStatus> {
        self.status.clone()
    }

    /// Returns the id of the member that leads the Raft group, as far as this member knows.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.status.borrow().leader_host
    }

    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.status.borrow().is_leader()
    }

    #[must_use]
    pub fn term(&self) -> u64 {
        self.status.borrow().term
    }

    /// Requests that the leadership of the Raft group is transferred to the member `to`.
    pub fn transfer(&self, to: u64) {
        self.handle.transfer_leader(GROUP, to);
    }

    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
