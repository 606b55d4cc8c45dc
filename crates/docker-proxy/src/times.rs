//! Start and end times of nodes for `docker ps` and `docker inspect`, derived from the state changes of the cluster.

use std::sync::Arc;

use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use chaosrun_cluster::{Cluster, NodeChange, NodeStatus};
use chaosrun_event::NodeState;

/// Start and end times of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Times {
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    state: NodeState,
}

type Table = Arc<IndexMap<String, Times>>;

/// Reader of the start and end times of all nodes. The task of [`follow`] updates the times.
#[derive(Debug, Clone)]
pub(super) struct ClockReader {
    table: watch::Receiver<Table>,
    /// Time shown as the creation time of all nodes: the earliest start of a node, or the start of the proxy if no node has started.
    pub created: Timestamp,
}

impl ClockReader {
    /// Returns the times of a node. Uses the current status too, since the latest state change may not have been processed yet.
    pub fn of(&self, status: &NodeStatus) -> Times {
        let table = self.table.borrow();
        let mut times = table.get(&status.node).cloned().unwrap_or(Times { started: None, finished: None, state: NodeState::Created });
        drop(table);
        times.turn(&status.state, began(status));
        times
    }
}

impl Times {
    /// Updates the times after the node entered `state` at the time `at`.
    fn turn(&mut self, state: &NodeState, at: Timestamp) {
        match state {
            NodeState::Running if !matches!(self.state, NodeState::Running | NodeState::Paused) => self.started = Some(at),
            NodeState::Paused if !matches!(self.state, NodeState::Running | NodeState::Paused) => self.started = Some(at),
            NodeState::Exited { .. } if !matches!(self.state, NodeState::Exited { .. }) => self.finished = Some(at),
            _ => {}
        }
        self.state = state.clone();
    }
}

/// Returns the time at which the current state of a node began.
fn began(status: &NodeStatus) -> Timestamp {
    let since = SignedDuration::try_from(status.since).unwrap_or(SignedDuration::ZERO);
    Timestamp::now().checked_sub(since).unwrap_or_else(|_| Timestamp::now())
}

/// Creates a reader of the times, and returns it with the future of the task that updates the times.
/// The state changes are subscribed before the status is read, so that no change is missed.
pub(super) fn follow(cluster: Arc<dyn Cluster>, token: CancellationToken) -> (ClockReader, impl Future<Output = ()> + Send + 'static) {
    let mut changes = cluster.changes();
    let mut table: IndexMap<String, Times> = IndexMap::new();
    resync(&mut table, &cluster.status());
    let created = table.values().filter_map(|times| times.started).min().unwrap_or_else(Timestamp::now);
    let (publish, reader) = watch::channel(Arc::new(table.clone()));
    let task = async move {
        while let Some(received) = next(&mut changes, &token).await {
            match received {
                Ok(change) => {
                    if let Some(times) = table.get_mut(&change.node) {
                        times.turn(&change.state, Timestamp::now());
                    }
                }
                Err(()) => resync(&mut table, &cluster.status()),
            }
            publish.send_replace(Arc::new(table.clone()));
        }
    };
    (ClockReader { table: reader, created }, task)
}

/// Returns the next state change of a node, or `None` at the end. Returns `Err` if changes were missed.
async fn next(changes: &mut broadcast::Receiver<NodeChange>, token: &CancellationToken) -> Option<Result<NodeChange, ()>> {
    tokio::select! {
        () = token.cancelled() => None,
        change = changes.recv() => match change {
            Ok(change) => Some(Ok(change)),
            Err(RecvError::Lagged(_)) => Some(Err(())),
            Err(RecvError::Closed) => None,
        },
    }
}

fn resync(table: &mut IndexMap<String, Times>, status: &[NodeStatus]) {
    for node in status {
        let times = table.entry(node.node.clone()).or_insert(Times { started: None, finished: None, state: NodeState::Created });
        times.turn(&node.state, began(node));
    }
}

/// Formats a time like the engine. `None` becomes the zero time of the engine, which means "never".
pub(super) fn written(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "0001-01-01T00:00:00Z".into(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_keeps_the_start_time_and_restart_changes_it() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let mut times = Times { started: None, finished: None, state: NodeState::Created };
        let gone = NodeState::Exited { code: None, signal: Some(9) };
        for (second, state) in [(1, NodeState::Running), (2, NodeState::Paused), (3, NodeState::Running), (4, gone.clone())] {
            times.turn(&state, at(second));
        }
        assert_eq!((times.started, times.finished), (Some(at(1)), Some(at(4))));
        times.turn(&gone, at(5));
        times.turn(&NodeState::Running, at(6));
        assert_eq!((times.started, times.finished), (Some(at(6)), Some(at(4))));
        assert_eq!(written(None), "0001-01-01T00:00:00Z");
    }
}
