//! When faults come and go: pure.

use std::time::Duration;

use crate::scenario::model::{Chaos, Heal};

/// When the first fault that counts as truth comes at the latest: the wait the scenario declares before anything can be felt.
#[must_use]
pub fn first_injection(chaos: &[Chaos], truth: &[String]) -> Option<Duration> {
    chaos.iter().filter(|fault| truth.contains(&fault.id)).map(|fault| fault.when.latest()).min()
}

/// When a fault is injected for the `turn`-th time, from 0, at the latest: counted from steady state.
#[must_use]
pub fn latest(fault: &Chaos, turn: u32) -> Duration {
    fault.when.latest() + after_first(fault, turn)
}

/// When a fault is injected for the `turn`-th time, counted from the first.
#[must_use]
pub fn after_first(fault: &Chaos, turn: u32) -> Duration {
    fault.repeat.every * turn
}

/// When the timeline is over at the latest, as far as it is known before: the last injection, and its end where it has one.
#[must_use]
pub fn over(chaos: &[Chaos]) -> Duration {
    let end = |fault: &Chaos| {
        let last = latest(fault, fault.repeat.times.saturating_sub(1));
        if let Heal::After(lasts) = fault.heal { last + lasts } else { last }
    };
    chaos.iter().map(end).max().unwrap_or_default()
}
