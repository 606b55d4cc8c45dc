//! How many trials ended how: what the exit code is made of.

use std::collections::{BTreeMap, HashMap};

use crate::event::{Event, Kind, TrialRole, Verdict};
use crate::ids::TrialId;

/// Counts by verdict, the subject's own apart: neither a control nor a check touches an exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub subject: BTreeMap<Verdict, usize>,
    pub beside: BTreeMap<Verdict, usize>,
    /// Trials that were planned.
    pub planned: usize,
    pub interrupted: bool,
    /// `RunFinished` was seen; without it the run was cut off.
    pub finished: bool,
    under_way: HashMap<TrialId, TrialRole>,
}

impl Tally {
    pub fn event(&mut self, event: &Event) {
        match (&event.kind, &event.trial) {
            (Kind::RunStarted { trials, .. }, _) => self.planned = *trials,
            (Kind::TrialStarted(started), Some(trial)) => {
                self.under_way.insert(trial.clone(), started.role);
            }
            (Kind::TrialFinished(finished), Some(trial)) => {
                let counts = match self.under_way.remove(trial) {
                    Some(TrialRole::Subject) => &mut self.subject,
                    Some(TrialRole::Control | TrialRole::Check) | None => &mut self.beside,
                };
                *counts.entry(finished.verdict).or_default() += 1;
            }
            (Kind::RunFinished { interrupted, .. }, _) => {
                self.finished = true;
                self.interrupted = *interrupted;
            }
            _ => {}
        }
    }

    /// The subject's trials that ended so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.subject.get(&verdict).copied().unwrap_or(0)
    }

    /// The subject's trials that tell something: all but the invalid ones.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.subject.iter().filter(|(verdict, _)| **verdict != Verdict::Invalid).map(|(_, count)| count).sum()
    }
}
