//! Probe `alive:` checks that the process of the node runs. The answer comes from the node states that the cluster knows, without a request
//! to the node.

use std::sync::Arc;

use serde::Serialize;

use super::answer::{AnswerBody, ProbeReply};
use super::failure::ProbeFailure;
use super::kind::{FromFile, ObservationProbe, Prepared, ProbeKind, ProbeSite, ProbeTarget, SharedKeys};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_event::NodeState;
use chaosrun_input::Checker;

#[derive(Debug, Clone, Serialize)]
pub struct Alive;

impl FromFile for Alive {
    type Raw = bool;

    fn read(raw: &bool, at: &Pointer, _: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self> {
        if !raw {
            check.wrong(at, Diagnostic::error("bad_probe", "`alive: false` checks nothing").label("expected `true`"));
        }
        Some(Self)
    }
}

impl ProbeKind for Alive {
    fn prepare(&self, _: &ProbeTarget<'_>) -> Result<Prepared, String> {
        Ok(Prepared::Look(Arc::new(Self)))
    }

    fn needs_node(&self) -> bool {
        true
    }

    fn follows_nodes(&self) -> bool {
        true
    }
}

impl ObservationProbe for Alive {
    fn look(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        let Some(state) = site.state() else { return Err(ProbeFailure::Told("no such node".into())) };
        // The process of a paused node exists but does not answer. Other probes detect this case.
        let (ok, text) = match state {
            NodeState::Running => (true, "running".to_owned()),
            NodeState::Paused => (true, "paused".to_owned()),
            NodeState::Created => (false, "not started".to_owned()),
            NodeState::Exited { signal: Some(signal), .. } => (false, format!("ended by signal {signal}")),
            NodeState::Exited { code, .. } => (false, format!("ended with code {}", code.unwrap_or_default())),
        };
        Ok(ProbeReply::new(ok, AnswerBody::Text(text.into())))
    }
}
