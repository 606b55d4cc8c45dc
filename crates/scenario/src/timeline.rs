//! Computation of the times at which faults are injected and end. The functions are pure.

use std::time::Duration;

use crate::model::{Chaos, Heal};

/// Returns the latest time of the first injection of a fault in `truth`, counted from the steady state. The wait until this time is part of
/// the scenario, not a delay of the cluster or the agent.
#[must_use]
pub fn first_injection(chaos: &[Chaos], truth: &[String]) -> Option<Duration> {
    chaos.iter().filter(|fault| truth.contains(&fault.id)).map(|fault| fault.when.latest()).min()
}

/// Returns the latest time of injection number `turn`, counted from the steady state. The first injection has number 0.
#[must_use]
pub fn latest(fault: &Chaos, turn: u32) -> Duration {
    fault.when.latest() + after_first(fault, turn)
}

/// Returns the time from the first injection to injection number `turn`. The first injection has number 0.
#[must_use]
pub fn after_first(fault: &Chaos, turn: u32) -> Duration {
    fault.repeat.every * turn
}

/// Returns the latest time at which the last injection or the last planned end of a fault takes place, counted from the steady state.
#[must_use]
pub fn over(chaos: &[Chaos]) -> Duration {
    let end = |fault: &Chaos| {
        let last = latest(fault, fault.repeat.times.saturating_sub(1));
        if let Heal::After(lasts) = fault.heal { last + lasts } else { last }
    };
    chaos.iter().map(end).max().unwrap_or_default()
}
