//! When faults come and go: pure.

use std::time::Duration;

use crate::scenario::model::{Chaos, Heal};

/// One thing to do, at a time counted from steady state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub at: Duration,
    /// Index into the scenario's chaos entries.
    pub entry: usize,
    pub action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Inject,
    /// Its time is over.
    Heal,
}

/// All steps in order of time; at the same moment in the order of the file, injections first.
#[must_use]
pub fn steps(chaos: &[Chaos]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (entry, fault) in chaos.iter().enumerate() {
        steps.push(Step { at: fault.at, entry, action: Action::Inject });
        if let Heal::After(duration) = fault.heal {
            steps.push(Step { at: fault.at + duration, entry, action: Action::Heal });
        }
    }
    steps.sort_by_key(|step| (step.at, step.action, step.entry));
    steps
}

/// When the first fault that counts as truth comes: the wait the scenario declares before anything can be felt.
#[must_use]
pub fn first_injection(chaos: &[Chaos], truth: &[String]) -> Option<Duration> {
    chaos.iter().filter(|fault| truth.contains(&fault.id)).map(|fault| fault.at).min()
}
