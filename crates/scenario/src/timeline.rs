//! Times of the injections and ends of faults. The functions are pure.

use std::time::Duration;

use crate::model::{Chaos, Heal};

/// Returns the latest time of the first injection of a fault that counts as truth, after steady state. The wait until this time is a
/// declared wait.
#[must_use]
pub fn first_injection(chaos: &[Chaos], truth: &[String]) -> Option<Duration> {
    chaos.iter().filter(|fault| truth.contains(&fault.id)).map(|fault| fault.when.latest()).min()
}

/// Returns the latest time of injection number `turn`, from 0, after steady state.
#[must_use]
pub fn latest(fault: &Chaos, turn: u32) -> Duration {
    fault.when.latest() + after_first(fault, turn)
}

/// Returns the time from the first injection to injection number `turn`.
#[must_use]
pub fn after_first(fault: &Chaos, turn: u32) -> Duration {
    fault.repeat.every * turn
}

/// Returns the latest end of the timeline, as far as it is known in advance. The end is the last injection, or the end of its fault if the
/// fault has one.
#[must_use]
pub fn over(chaos: &[Chaos]) -> Duration {
    let end = |fault: &Chaos| {
        let last = latest(fault, fault.repeat.times.saturating_sub(1));
        if let Heal::After(lasts) = fault.heal { last + lasts } else { last }
    };
    chaos.iter().map(end).max().unwrap_or_default()
}
