//! Nodes that the agent changed by any means. The cluster reports the actor of each change.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use chaosrun_base::task;
use chaosrun_cluster::Cluster;
use chaosrun_event::Actor;

/// Names of the nodes that the agent changed, in the order of their first change.
#[derive(Debug, Clone)]
pub(crate) struct TouchedNodes(Arc<Mutex<Vec<String>>>);

impl TouchedNodes {
    /// Starts recording the nodes that the agent changes, until `cancel` is cancelled.
    pub fn watch(cluster: &dyn Cluster, cancel: CancellationToken) -> Self {
        let touches = Self(Arc::default());
        let found = touches.clone();
        let mut changes = cluster.changes();
        task::spawn(async move {
            loop {
                let change = tokio::select! {
                    () = cancel.cancelled() => return,
                    change = changes.recv() => change,
                };
                match change {
                    Ok(change) if change.by == Some(Actor::Agent) => found.add(change.node),
                    Ok(_) | Err(RecvError::Lagged(_)) => (),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        touches
    }

    fn add(&self, node: String) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }

    pub fn nodes(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
