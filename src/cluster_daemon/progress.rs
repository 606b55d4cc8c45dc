//! Conversion of events to progress messages for the client that waits for the cluster.

use std::collections::HashMap;

use tokio::sync::mpsc;

use super::daemon::ProgressSink;
use super::faults::{self, FaultStates};
use super::wire::{DaemonMessage, ReadinessStep};
use chaosrun_event::emit::DispatcherMessage;
use chaosrun_event::{Actor, EventKind, NodeState};

/// Converts events to messages and sends them, until all emitters of events are dropped. `roles` contains the role of each node.
pub(super) async fn follow(
    mut messages: mpsc::UnboundedReceiver<DispatcherMessage>,
    roles: HashMap<String, String>,
    faults: FaultStates,
    tell: ProgressSink,
) {
    let step = |node: String, step| DaemonMessage::Node { role: roles.get(&node).cloned().unwrap_or_default(), node, step };
    while let Some(message) = messages.recv().await {
        let draft = match message {
            DispatcherMessage::Event(draft) => draft,
            DispatcherMessage::Durable(reply) => {
                // A kept cluster is not recorded.
                let _ = reply.send(Ok(()));
                continue;
            }
        };
        faults::hear(&faults, draft.at, &draft.kind);
        match draft.kind {
            EventKind::NodeStarted { node, .. } => tell(step(node, ReadinessStep::Started)),
            EventKind::NodeReady { node, after_us } => tell(step(node, ReadinessStep::Ready { after_us })),
            // The start of the node is already reported.
            EventKind::NodeChanged { state: NodeState::Running, by: Some(Actor::Runner), .. } => (),
            EventKind::NodeChanged { node, state, .. } => tell(step(node, ReadinessStep::Changed { state })),
            EventKind::Warning { message } => tell(DaemonMessage::Note { text: format!("warning: {message}") }),
            _ => (),
        }
    }
}
