//! From the stream of events to what the one who waits is told.

use std::collections::HashMap;

use tokio::sync::mpsc;

use super::faults::{self, Faults};
use super::keep::Tell;
use super::wire::{Step, Told};
use crate::emit::Message;
use crate::event::{Actor, Kind, NodeState};

/// Tells until every emitter is gone. `roles` are those of the nodes.
pub(super) async fn follow(mut messages: mpsc::UnboundedReceiver<Message>, roles: HashMap<String, String>, faults: Faults, tell: Tell) {
    let step = |node: String, step| Told::Node { role: roles.get(&node).cloned().unwrap_or_default(), node, step };
    while let Some(message) = messages.recv().await {
        let draft = match message {
            Message::Event(draft) => draft,
            Message::Durable(reply) => {
                // Nothing of a kept cluster is recorded.
                let _ = reply.send(Ok(()));
                continue;
            }
        };
        faults::hear(&faults, draft.at, &draft.kind);
        match draft.kind {
            Kind::NodeStarted { node, .. } => tell(step(node, Step::Started)),
            Kind::NodeReady { node, after_us } => tell(step(node, Step::Ready { after_us })),
            // Told as a start.
            Kind::NodeChanged { state: NodeState::Running, by: Some(Actor::Runner), .. } => (),
            Kind::NodeChanged { node, state, .. } => tell(step(node, Step::Changed { state })),
            Kind::Warning { message } => tell(Told::Note { text: format!("warning: {message}") }),
            _ => (),
        }
    }
}
