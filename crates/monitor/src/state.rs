//! State that the monitor publishes after every evaluation of the invariants.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::series::ObservedSeries;
use chaosrun_event::{Spot, Ticket};
use chaosrun_expr::Value;
use chaosrun_scenario::model::InvariantKind;

/// Description of the state of an invariant, for one of its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    pub invariant: String,
    pub kind: InvariantKind,
    pub node: Option<String>,
    pub observed: String,
    pub expected: String,
    /// True if the invariant is unknown, and therefore neither holds nor is broken.
    pub unknown: bool,
    /// True if the invariant cannot be evaluated because the cluster file does not match the system. A trial in which this persists is
    /// invalid.
    pub malformed: bool,
    pub place: Option<Spot>,
}

/// Result of the monitor's newest evaluation.
#[derive(Debug, Clone, Default)]
pub struct MonitorState {
    /// Number of evaluations so far.
    pub tick: u64,
    /// Time since which all invariants have held. `None` while an invariant is broken or unknown.
    pub all_hold_since: Option<Instant>,
    /// Time since which all objectives have held. `None` while an objective is broken or unknown.
    pub objectives_hold_since: Option<Instant>,
    /// Invariants that are broken now or have never been known. Objectives come before safeguards, in the order of the file.
    pub troubles: Vec<Brief>,
    /// Safeguards that have been violated at any time in the trial.
    pub safeguards_broken: Vec<Brief>,
    /// All tickets of the trial. The second value is true for an open ticket.
    pub tickets: Vec<(Ticket, bool)>,
    /// Number of objectives. An objective with several items counts once per item.
    pub objectives: usize,
    /// Newest observations by name, as expressions access them.
    pub observed: Value,
    /// Recent values of the numeric observations.
    pub series: Arc<ObservedSeries>,
    /// All times at which a ticket was opened or reopened.
    pub raised: Vec<(Ticket, Instant)>,
}

impl MonitorState {
    #[must_use]
    pub fn all_held_for(&self, wanted: Duration) -> bool {
        self.tick > 0 && self.all_hold_since.is_some_and(|since| since.elapsed() >= wanted)
    }

    #[must_use]
    pub fn objectives_held_for(&self, wanted: Duration) -> bool {
        self.tick > 0 && self.objectives_hold_since.is_some_and(|since| since.elapsed() >= wanted)
    }

    /// Returns the first ticket that was opened or reopened since `moment`, with its time. Earlier violations are no effect of a fault
    /// injected at `moment`.
    #[must_use]
    pub fn first_ticket_since(&self, moment: Instant) -> Option<(Ticket, Instant)> {
        self.raised.iter().find(|(_, at)| *at >= moment).cloned()
    }

    /// Returns a description of the first broken invariant, or `None` if no invariant is broken.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let brief = self.troubles.first()?;
        let whose = brief.node.as_ref().map_or(String::new(), |node| format!(" of {node}"));
        let Brief { invariant, observed, expected, unknown, .. } = brief;
        Some(if *unknown {
            format!("`{invariant}`{whose} is unknown: {observed}")
        } else {
            format!("`{invariant}`{whose}: observed {observed}, expected {expected}")
        })
    }
}
