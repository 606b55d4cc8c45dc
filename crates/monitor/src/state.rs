//! State that the monitor publishes after every evaluation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::series::ObservedSeries;
use chaosrun_event::{Spot, Ticket};
use chaosrun_expr::Value;
use chaosrun_scenario::model::InvariantKind;

/// Description of an invariant of an item in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    pub invariant: String,
    pub kind: InvariantKind,
    pub node: Option<String>,
    pub observed: String,
    pub expected: String,
    /// True if unknown: neither holding nor broken.
    pub unknown: bool,
    /// True if the file and the system do not match: if this persists, the trial says nothing about the agent.
    pub malformed: bool,
    pub place: Option<Spot>,
}

/// Result of the newest evaluation.
#[derive(Debug, Clone, Default)]
pub struct MonitorState {
    /// Number of evaluations so far.
    pub tick: u64,
    /// Start of the period in which every invariant holds; `None` while one is broken or unknown.
    pub all_hold_since: Option<Instant>,
    /// Start of the period in which all objectives hold.
    pub objectives_hold_since: Option<Instant>,
    /// Invariants that are broken now, or have never been known: objectives before safeguards, in the order of the file.
    pub troubles: Vec<Brief>,
    /// Safeguards that were violated at any time.
    pub safeguards_broken: Vec<Brief>,
    /// All tickets of the trial; true for an open ticket.
    pub tickets: Vec<(Ticket, bool)>,
    /// Number of objectives, each counted for each of its items.
    pub objectives: usize,
    /// Newest observations by name, as expressions see them.
    pub observed: Value,
    /// Recent history of the numeric observations.
    pub series: Arc<ObservedSeries>,
    /// All openings and reopenings of tickets, with their time.
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

    /// Returns the first ticket since a moment: an earlier violation is not an effect of the fault.
    #[must_use]
    pub fn first_ticket_since(&self, moment: Instant) -> Option<(Ticket, Instant)> {
        self.raised.iter().find(|(_, at)| *at >= moment).cloned()
    }

    /// Returns the first broken invariant in words.
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
