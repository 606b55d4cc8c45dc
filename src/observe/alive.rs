//! `alive:` probes: does the node's process run? Answered from what the cluster knows, without asking anybody.

use std::time::Instant;

use super::answer::{Answer, Body};
use crate::cluster::NodeStatus;
use crate::event::NodeState;

pub(super) fn ask(status: Option<&NodeStatus>) -> Answer {
    let began = Instant::now();
    let Some(status) = status else { return Answer::failed("no such node", began) };
    // A stopped process is there, and is no process that serves: other probes tell.
    let (ok, text) = match &status.state {
        NodeState::Running => (true, "running".to_owned()),
        NodeState::Paused => (true, "paused".to_owned()),
        NodeState::Created => (false, "not started".to_owned()),
        NodeState::Exited { signal: Some(signal), .. } => (false, format!("ended by signal {signal}")),
        NodeState::Exited { code, .. } => (false, format!("ended with code {}", code.unwrap_or_default())),
    };
    Answer::of(ok, Body::Text(text.into()), began)
}
