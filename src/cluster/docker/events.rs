//! What the engine tells of a trial's containers, as it happens.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::error::words;
use super::node::Node;
use super::plan::{NODE, PART};
use super::reap::TRIAL;
use crate::emit::Emitter;
use crate::ids::TrialId;

/// A change of a container's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Started,
    Died { code: i32 },
    Paused,
    Unpaused,
}

/// Before the next try when the engine has cut the stream.
const AGAIN: Duration = Duration::from_millis(200);

/// Passes the events of the trial's containers on until `token` is cancelled.
pub(super) async fn follow(engine: Engine, trial: TrialId, nodes: HashMap<String, Arc<Node>>, emitter: Emitter, token: CancellationToken) {
    // All there ever were of this trial: then none is missed, whenever the engine begins to listen.
    let mut since = "1".to_owned();
    let mut newest: i64 = 0;
    // They do not come in the order of their times, so only having seen one tells that it is repeated.
    let mut known: HashSet<(Option<String>, Option<String>, i64)> = HashSet::new();
    loop {
        let filters = HashMap::from([
            ("type", vec!["container".to_owned()]),
            ("label", vec![format!("{TRIAL}={trial}")]),
            ("event", ["start", "die", "pause", "unpause"].map(str::to_owned).to_vec()),
        ]);
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        let mut events = engine.api().events(Some(options));
        loop {
            let event = tokio::select! {
                () = token.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    let at = event.time_nano.unwrap_or_default();
                    newest = newest.max(at);
                    let id = event.actor.as_ref().and_then(|actor| actor.id.clone());
                    // A stream that was begun anew repeats some.
                    if known.insert((id, event.action.clone(), at)) {
                        handle(&event, &nodes, &emitter);
                    }
                }
                Some(Err(error)) => {
                    emitter.warn(format!("the engine's events cannot be read: {}", words(&error)));
                    break;
                }
                None => break,
            }
        }
        // A second before: one that is older may still be on its way.
        since = (newest / 1_000_000_000 - 1).max(1).to_string();
        // An engine that restarts; nothing tells when it is back.
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

fn handle(event: &EventMessage, nodes: &HashMap<String, Arc<Node>>, emitter: &Emitter) {
    let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    let attribute = |name: &str| attributes.and_then(|attributes| attributes.get(name)).map(String::as_str);
    let (Some(part), Some(name)) = (attribute(PART), attribute(NODE)) else { return };
    let seen = match event.action.as_deref() {
        Some("start") => Seen::Started,
        Some("die") => Seen::Died { code: attribute("exitCode").and_then(|code| code.parse().ok()).unwrap_or_default() },
        Some("pause") => Seen::Paused,
        Some("unpause") => Seen::Unpaused,
        _ => return,
    };
    match (part, nodes.get(name)) {
        ("node", Some(node)) => node.seen(seen),
        // At the end of the trial every holder is removed.
        ("holder", node) if matches!(seen, Seen::Died { .. }) && node.is_some_and(|node| !node.is_ending()) => {
            emitter.warn(format!("the holder of `{name}` has ended: its network is no longer ours"));
        }
        _ => {}
    }
}
