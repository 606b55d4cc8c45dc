//! How many trials ended how: what the exit code is made of.

use std::collections::{BTreeMap, HashMap};

use crate::event::{Event, Kind, Stopped, TrialRole, Verdict};
use crate::ids::TrialId;

/// Counts by verdict, the subject's own apart: neither a control nor a check touches an exit code. A trial counts once, by its last
/// attempt; one that an earlier run has finished counts as if it were of this run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    pub subject: BTreeMap<Verdict, usize>,
    pub beside: BTreeMap<Verdict, usize>,
    /// Trials that were planned.
    pub planned: usize,
    /// Of them, those that were recorded before and not run again.
    pub kept: usize,
    /// Those that have begun.
    pub begun: usize,
    /// Attempts beyond the first ones: each time a trial was invalid, and was tried again.
    pub retried: usize,
    /// Trials that have not begun since their outcome is not needed.
    pub not_needed: usize,
    /// Why not all were begun.
    pub stopped: Option<Stopped>,
    /// How many were missing then, those that were to be tried again included.
    missed: usize,
    pub interrupted: bool,
    /// `RunFinished` was seen; without it the run was cut off.
    pub finished: bool,
    under_way: HashMap<TrialId, Attempt>,
    /// The last attempt of each, and what it came to, by the trial's number.
    ended: HashMap<usize, (Attempt, Verdict)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Attempt {
    number: usize,
    role: TrialRole,
    /// From 1.
    nth: u32,
    /// Of an earlier run.
    kept: bool,
}

impl Tally {
    pub fn event(&mut self, event: &Event) {
        match (&event.kind, &event.trial) {
            (Kind::RunStarted { trials, .. }, _) => self.planned = *trials,
            (Kind::TrialKept(kept), _) => {
                let attempt = Attempt { number: kept.number, role: kept.role, nth: kept.attempt, kept: true };
                self.begin(attempt);
                self.end(attempt, kept.verdict);
            }
            (Kind::TrialStarted(started), Some(trial)) => {
                let attempt = Attempt { number: started.number, role: started.role, nth: started.attempt, kept: false };
                self.begin(attempt);
                self.under_way.insert(trial.clone(), attempt);
            }
            (Kind::TrialFinished(finished), Some(trial)) => {
                let unknown = Attempt { number: 0, role: TrialRole::Check, nth: 1, kept: false };
                let attempt = self.under_way.remove(trial).unwrap_or(unknown);
                self.end(attempt, finished.verdict);
            }
            (Kind::ComparisonAnswered(answered), _) => self.not_needed += answered.not_needed,
            (Kind::RunStopped { why, missing }, _) => {
                let decided = matches!(why, Stopped::Decided { .. } | Stopped::Certain { .. });
                self.missed = if decided { 0 } else { *missing };
                self.not_needed += if decided { *missing } else { 0 };
                self.stopped = Some(why.clone());
            }
            (Kind::RunFinished { interrupted, .. }, _) => {
                self.finished = true;
                self.interrupted = *interrupted;
            }
            _ => {}
        }
    }

    /// A further attempt takes the place of the one before it.
    fn begin(&mut self, attempt: Attempt) {
        let further = attempt.nth > 1;
        if let Some((before, verdict)) = further.then(|| self.ended.remove(&attempt.number)).flatten() {
            *self.of_role(before.role).entry(verdict).or_default() -= 1;
            self.of_role(before.role).retain(|_, count| *count > 0);
            *self.begun_or_kept(before.kept) -= 1;
            self.retried -= before.retries();
        }
        *self.begun_or_kept(attempt.kept) += 1;
        self.retried += attempt.retries();
    }

    fn end(&mut self, attempt: Attempt, verdict: Verdict) {
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

    /// All that have ended, whatever they are for.
    #[must_use]
    pub fn done(&self) -> usize {
        self.subject.values().chain(self.beside.values()).sum()
    }

    /// Trials of the plan that are needed, and have neither begun nor been kept.
    #[must_use]
    pub fn never_begun(&self) -> usize {
        self.planned.saturating_sub(self.begun + self.kept + self.not_needed)
    }

    /// Trials that were invalid, and were not tried again although they were to be.
    #[must_use]
    pub fn not_retried(&self) -> usize {
        self.missed.saturating_sub(self.never_begun())
    }

    /// All that is not run of what was to be.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.never_begun() + self.not_retried()
    }

    /// Whether a budget has kept trials from beginning: then the plan has no outcome yet.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Resource, TrialStarted};
    use crate::report::gallery::{self, Stream};

    fn tally(stream: &Stream) -> Tally {
        let mut tally = Tally::default();
        stream.events.iter().for_each(|event| tally.event(event));
        tally
    }

    #[test]
    fn a_trial_counts_once_by_its_last_attempt() {
        let again = |attempt| TrialStarted { attempt, ..gallery::started("a", "b", 2) };
        let mut stream = Stream::new("r-1", 3);
        stream
            .whole("t-1", gallery::started("a", "b", 1), gallery::finished(Verdict::Pass))
            .whole("t-2", again(1), gallery::invalid())
            .whole("t-3", again(2), gallery::invalid())
            .whole("t-4", again(3), gallery::failed());
        let found = tally(&stream);
        assert_eq!((found.count(Verdict::Pass), found.count(Verdict::Fail), found.count(Verdict::Invalid)), (1, 1, 0));
        assert_eq!((found.begun, found.retried, found.done(), found.missing()), (2, 2, 2, 1));
        stream.trial("t-5", again(4));
        assert_eq!((tally(&stream).begun, tally(&stream).done()), (2, 1), "it is open again");
    }

    #[test]
    fn a_retry_that_a_budget_leaves_is_missing_and_what_is_not_needed_is_not() {
        let mut stream = Stream::new("r-1", 5);
        stream.whole("t-1", gallery::started("a", "b", 1), gallery::invalid());
        let budget = || Stopped::Budget { of: Resource::Usd, limit: 1.0, spent: 1.0, next: 1.0 };
        stream.push(Kind::RunStopped { why: budget(), missing: 5 });
        let found = tally(&stream);
        assert_eq!((found.never_begun(), found.not_retried(), found.missing(), found.is_short()), (4, 1, 5, true));
        stream.push(gallery::answered("b", 2)).push(Kind::RunStopped { why: Stopped::Decided { comparisons: 1 }, missing: 2 });
        let found = tally(&stream);
        assert_eq!((found.not_needed, found.missing(), found.is_short()), (4, 0, false));
    }

    #[test]
    fn what_was_recorded_before_counts_as_if_it_were_of_this_run() {
        let mut stream = Stream::new("r-1", 3);
        stream.push(gallery::kept(1, Verdict::Pass)).push(gallery::kept(2, Verdict::Invalid)).whole(
            "t-2",
            TrialStarted { attempt: 2, ..gallery::started("a", "b", 2) },
            gallery::finished(Verdict::Pass),
        );
        let found = tally(&stream);
        assert_eq!((found.subject.clone(), found.kept, found.begun), (BTreeMap::from([(Verdict::Pass, 2)]), 1, 1));
        assert_eq!((found.retried, found.missing()), (1, 1));
    }
}
