//! Events that the engine reports about the containers of a trial.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::error::words;
use super::node::{ContainerChange, ContainerNode};
use super::plan::{NODE, PART};
use super::reap::TRIAL;
use chaosrun_base::ids::TrialId;
use chaosrun_event::emit::Emitter;

/// Pause before the next connection after the engine closed the event stream.
const AGAIN: Duration = Duration::from_millis(200);

/// Forwards the events of the containers of the trial until `token` is cancelled.
pub(super) async fn follow(
    engine: Engine,
    trial: TrialId,
    nodes: HashMap<String, Arc<ContainerNode>>,
    emitter: Emitter,
    token: CancellationToken,
) {
    // The request asks for all events of the trial from the beginning, so that no event is missed before the engine starts to send.
    let mut since = "1".to_owned();
    let mut newest: i64 = 0;
    // Events may arrive out of order, so duplicates are recognised by id, action and time.
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
                    // A reopened stream repeats some events, which are skipped.
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
        // The stream begins one second before the newest event, since an older event may still arrive.
        since = (newest / 1_000_000_000 - 1).max(1).to_string();
        // The engine may be restarting. Its return is not announced, so the connection is retried after a pause.
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

fn handle(event: &EventMessage, nodes: &HashMap<String, Arc<ContainerNode>>, emitter: &Emitter) {
    let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    let attribute = |name: &str| attributes.and_then(|attributes| attributes.get(name)).map(String::as_str);
    let (Some(part), Some(name)) = (attribute(PART), attribute(NODE)) else { return };
    let seen = match event.action.as_deref() {
        Some("start") => ContainerChange::Started,
        Some("die") => ContainerChange::Died { code: attribute("exitCode").and_then(|code| code.parse().ok()).unwrap_or_default() },
        Some("pause") => ContainerChange::Paused,
        Some("unpause") => ContainerChange::Unpaused,
        _ => return,
    };
    match (part, nodes.get(name)) {
        ("node", Some(node)) => node.seen(seen),
        // At the end of the trial every sidecar is removed, which is not a failure.
        ("holder", node) if matches!(seen, ContainerChange::Died { .. }) && node.is_some_and(|node| !node.is_ending()) => {
            emitter.warn(format!("the holder of `{name}` has ended: its network is no longer ours"));
        }
        _ => {}
    }
}
