//! Values of a trial that all nodes of the trial use.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::relay::Relay;
use super::roster::Roster;
use super::supervisor::SupervisorClient;
use chaosrun_backend::ready;
use chaosrun_cluster::NodeChange;
use chaosrun_event::emit::Emitter;

/// Values that the tasks of all nodes of a trial share.
#[derive(Debug)]
pub(super) struct LocalShared {
    pub client: SupervisorClient,
    pub scope: u64,
    pub emitter: Emitter,
    pub changes: broadcast::Sender<NodeChange>,
    pub relay: Option<Relay>,
    pub roster: Arc<Roster>,
    pub prober: ready::Prober,
}
