//! Counts of trials by verdict, which determine the exit code.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{Event, EventKind, Reason, Stopped, TrialRole, Verdict};
use chaosrun_base::ids::TrialId;

/// Counts of trials by verdict. Only the trials of the subject affect the exit code. Controls and checks are counted separately in
/// `beside`. A trial counts once, by its last attempt. A trial that an earlier run has finished counts as a trial of this run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    pub subject: BTreeMap<Verdict, usize>,
    pub beside: BTreeMap<Verdict, usize>,
    /// Number of planned trials.
    pub planned: usize,
    /// Number of planned trials that an earlier run had recorded and that this run therefore did not repeat.
    pub kept: usize,
    /// Number of planned trials that have started.
    pub begun: usize,
    /// Number of retries of invalid trials.
    pub retried: usize,
    /// Number of trials that were not started because their outcome is not needed.
    pub not_needed: usize,
    /// Reason why the run stopped starting trials. `None` if it did not stop early.
    pub stopped: Option<Stopped>,
    /// Number of missing trials when the run stopped early, including planned retries.
    missed: usize,
    pub interrupted: bool,
    /// True after the event `RunFinished`. A run without this event was cut off.
    pub finished: bool,
    /// Plan numbers of the subject's trials whose last attempt ended because of a bug in chaosrun.
    bugs: HashSet<usize>,
    under_way: HashMap<TrialId, Attempt>,
    /// Last attempt of each trial and its verdict, by the trial's number in the plan.
    ended: HashMap<usize, (Attempt, Verdict)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Attempt {
    number: usize,
    role: TrialRole,
    /// Number of the attempt, from 1.
    nth: u32,
    /// True if an earlier run recorded the attempt.
    kept: bool,
}

impl Tally {
    pub fn event(&mut self, event: &Event) {
        match (&event.kind, &event.trial) {
            (EventKind::RunStarted { trials, .. }, _) => self.planned = *trials,
            (EventKind::TrialKept(kept), _) => {
                let attempt = Attempt { number: kept.number, role: kept.role, nth: kept.attempt, kept: true };
                self.begin(attempt);
                self.end(attempt, kept.verdict, kept.reason.as_deref());
            }
            (EventKind::TrialStarted(started), Some(trial)) => {
                let attempt = Attempt { number: started.number, role: started.role, nth: started.attempt, kept: false };
                self.begin(attempt);
                self.under_way.insert(trial.clone(), attempt);
            }
            (EventKind::TrialFinished(finished), Some(trial)) => {
                let unknown = Attempt { number: 0, role: TrialRole::Check, nth: 1, kept: false };
                let attempt = self.under_way.remove(trial).unwrap_or(unknown);
                self.end(attempt, finished.verdict, finished.reason.as_ref());
            }
            (EventKind::ComparisonAnswered(answered), _) => self.not_needed += answered.not_needed,
            (EventKind::RunStopped { why, missing }, _) => {
                let decided = matches!(why, Stopped::Decided { .. } | Stopped::Certain { .. });
                self.missed = if decided { 0 } else { *missing };
                self.not_needed += if decided { *missing } else { 0 };
                self.stopped = Some(why.clone());
            }
            (EventKind::RunFinished { interrupted, .. }, _) => {
                self.finished = true;
                self.interrupted = *interrupted;
            }
            _ => {}
        }
    }

    /// Counts the start of an attempt. A further attempt at the same trial replaces the previous attempt.
    fn begin(&mut self, attempt: Attempt) {
        let further = attempt.nth > 1;
        self.bugs.remove(&attempt.number);
        if let Some((before, verdict)) = further.then(|| self.ended.remove(&attempt.number)).flatten() {
            *self.of_role(before.role).entry(verdict).or_default() -= 1;
            self.of_role(before.role).retain(|_, count| *count > 0);
            *self.begun_or_kept(before.kept) -= 1;
            self.retried -= before.retries();
        }
        *self.begun_or_kept(attempt.kept) += 1;
        self.retried += attempt.retries();
    }

    fn end(&mut self, attempt: Attempt, verdict: Verdict, reason: Option<&Reason>) {
        if attempt.role == TrialRole::Subject && verdict == Verdict::Invalid && reason.is_some_and(Reason::is_bug) {
            self.bugs.insert(attempt.number);
        }
        *self.of_role(attempt.role).entry(verdict).or_default() += 1;
        self.ended.insert(attempt.number, (attempt, verdict));
    }

    const fn of_role(&mut self, role: TrialRole) -> &mut BTreeMap<Verdict, usize> {
        match role {
            TrialRole::Subject => &mut self.subject,
            TrialRole::Control | TrialRole::Check => &mut self.beside,
        }
    }

    const fn begun_or_kept(&mut self, kept: bool) -> &mut usize {
        if kept { &mut self.kept } else { &mut self.begun }
    }

    /// Returns true if a bug in chaosrun ended one of the subject's trials.
    #[must_use]
    pub fn has_bugs(&self) -> bool {
        !self.bugs.is_empty()
    }

    /// Returns the number of the subject's trials that ended with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.subject.get(&verdict).copied().unwrap_or(0)
    }

    /// Returns the number of the subject's trials with a verdict other than invalid.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.subject.iter().filter(|(verdict, _)| **verdict != Verdict::Invalid).map(|(_, count)| count).sum()
    }

    /// Returns the number of all ended trials, including controls and checks.
    #[must_use]
    pub fn done(&self) -> usize {
        self.subject.values().chain(self.beside.values()).sum()
    }

    /// Returns the number of needed trials of the plan that have neither started nor been recorded by an earlier run.
    #[must_use]
    pub fn never_begun(&self) -> usize {
        self.planned.saturating_sub(self.begun + self.kept + self.not_needed)
    }

    /// Returns the number of invalid trials whose planned retry did not take place.
    #[must_use]
    pub fn not_retried(&self) -> usize {
        self.missed.saturating_sub(self.never_begun())
    }

    /// Returns the total number of missing trials and missing retries.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.never_begun() + self.not_retried()
    }

    /// Returns true if an exhausted budget prevented trials from starting, so that the plan has no complete result.
    #[must_use]
    pub fn is_short(&self) -> bool {
        matches!(self.stopped, Some(Stopped::Budget { .. })) && self.missing() > 0
    }
}

impl Attempt {
    const fn retries(self) -> usize {
        self.nth.saturating_sub(1) as usize
    }
}
