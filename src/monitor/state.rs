//! What the monitor publishes after every evaluation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::series::Series;
use crate::event::{Spot, Ticket};
use crate::expr::Value;
use crate::scenario::model::InvariantKind;

/// An invariant of an item, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    pub invariant: String,
    pub kind: InvariantKind,
    pub node: Option<String>,
    pub observed: String,
    pub expected: String,
    /// Unknown: neither holding nor broken.
    pub unknown: bool,
    /// The file and the system do not fit together: the trial says nothing about the agent when it lasts.
    pub malformed: bool,
    pub place: Option<Spot>,
}

/// The newest evaluation.
#[derive(Debug, Clone, Default)]
pub struct MonitorState {
    /// Evaluations so far.
    pub tick: u64,
    /// Since when every invariant has held; none while one does not, or is not known.
    pub all_hold_since: Option<Instant>,
    /// As `all_hold_since`, of the objectives alone.
    pub objectives_hold_since: Option<Instant>,
    /// What does not hold now, or has never been known: objectives before safeguards, in the order of the file.
    pub troubles: Vec<Brief>,
    /// Safeguards that were ever violated.
    pub safeguards_broken: Vec<Brief>,
    /// Every ticket of the trial, and whether it is open.
    pub tickets: Vec<(Ticket, bool)>,
    /// How many objectives there are, each counted for each of its items.
    pub objectives: usize,
    /// The newest observations by name, as expressions see them.
    pub observed: Value,
    /// Their numbers over the last while.
    pub series: Arc<Series>,
    /// Every time a ticket was opened, or opened again, and when.
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

    /// The first ticket since a moment: what was in trouble before is not what the fault did.
    #[must_use]
    pub fn first_ticket_since(&self, moment: Instant) -> Option<(Ticket, Instant)> {
        self.raised.iter().find(|(_, at)| *at >= moment).cloned()
    }

    /// The first trouble in words.
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
