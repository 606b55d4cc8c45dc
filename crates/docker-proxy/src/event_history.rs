//! History of state changes of the nodes, in the form of engine events.

use std::sync::{Arc, Mutex, PoisonError};

use indexmap::IndexMap;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use chaosrun_cluster::Cluster;
use chaosrun_event::NodeState;

/// Largest number of stored events. An engine stores the same number.
const KEPT: usize = 256;

/// State change of a node, as an event of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Happened {
    /// Sequence number of the event, from 0.
    pub number: usize,
    pub at: Timestamp,
    pub node: String,
    pub action: &'static str,
    pub code: Option<i32>,
}

/// Latest state changes of the nodes as engine events. The task of [`follow`] adds new events.
#[derive(Debug, Clone)]
pub(super) struct EventHistory {
    kept: Arc<Mutex<Vec<Happened>>>,
    /// Number of all events so far, including events that are not stored any more.
    pub count: watch::Receiver<usize>,
}

impl EventHistory {
    /// Returns the stored events whose sequence number is at least `from`.
    pub fn since(&self, from: usize) -> Vec<Happened> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|happened| happened.number >= from).cloned().collect()
    }
}

/// Creates an empty history, and returns it with the future of the task that adds events.
pub(super) fn follow(cluster: &Arc<dyn Cluster>, token: CancellationToken) -> (EventHistory, impl Future<Output = ()> + Send + 'static) {
    let mut changes = cluster.changes();
    let mut states: IndexMap<String, NodeState> = cluster.status().into_iter().map(|status| (status.node, status.state)).collect();
    let kept: Arc<Mutex<Vec<Happened>>> = Arc::default();
    let (publish, count) = watch::channel(0);
    let history = EventHistory { kept: Arc::clone(&kept), count };
    let task = async move {
        loop {
            let change = tokio::select! {
                () = token.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(change) => change,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                },
            };
            let before = states.insert(change.node.clone(), change.state.clone());
            let actions = actions(before.as_ref(), &change.state);
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            for (action, code) in actions {
                let happened = Happened { number: *publish.borrow(), at: Timestamp::now(), node: change.node.clone(), action, code };
                kept.push(happened);
                if kept.len() > KEPT {
                    kept.remove(0);
                }
                publish.send_modify(|count| *count += 1);
            }
        }
    };
    (history, task)
}

/// Returns the names of the engine events for a change from one state to another, each with an exit code if the event has one.
fn actions(before: Option<&NodeState>, now: &NodeState) -> Vec<(&'static str, Option<i32>)> {
    match (before, now) {
        (Some(NodeState::Paused), NodeState::Running) => vec![("unpause", None)],
        (_, NodeState::Running) => vec![("start", None)],
        (_, NodeState::Paused) => vec![("pause", None)],
        (_, NodeState::Exited { code, signal }) => {
            let code = signal.map_or(code.unwrap_or(0), |signal| 128 + signal);
            let killed = signal.map(|_| ("kill", None));
            killed.into_iter().chain([("die", Some(code))]).collect()
        }
        (_, NodeState::Created) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_changes_have_the_engines_event_names() {
        let killed = NodeState::Exited { code: None, signal: Some(9) };
        assert_eq!(actions(Some(&NodeState::Running), &killed), [("kill", None), ("die", Some(137))]);
        assert_eq!(actions(Some(&killed), &NodeState::Running), [("start", None)]);
        assert_eq!(actions(Some(&NodeState::Running), &NodeState::Paused), [("pause", None)]);
        assert_eq!(actions(Some(&NodeState::Paused), &NodeState::Running), [("unpause", None)]);
        assert_eq!(actions(Some(&NodeState::Running), &NodeState::Exited { code: Some(0), signal: None }), [("die", Some(0))]);
    }
}
