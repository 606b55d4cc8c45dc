//! Which trial starts next, and when none does any more: pure, so that it is tested without running anything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::budget::{self, Cost};
use super::until::Until;
use crate::event::{Answered, Stopped, TrialFinished, TrialRole, Verdict};
use crate::gate::certain::Certain;
use crate::ids::TrialId;
use crate::plan::TrialPlan;
use crate::scenario::model::Budget;

/// How the trials of a plan are gone through.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// How many run at once; 0 counts as 1.
    pub jobs: usize,
    /// How often an invalid trial is tried again.
    pub retries: u32,
    /// No further trial starts when one of the subject has not passed.
    pub fail_fast: bool,
    pub budget: Budget,
    /// What trials of the same plan have used in earlier runs.
    pub spent: Cost,
    /// What is to be decided, with what earlier runs have told of it: it ends a variant, and the run, as soon as it is.
    pub until: Option<Until>,
    /// What makes the gate's answer certain: it ends the run as soon as it is.
    pub certain: Option<Certain>,
}

/// What matters of the end of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub verdict: Verdict,
    /// By a person: it is not tried again.
    pub interrupted: bool,
    pub score: Option<f64>,
    /// Of the verdict's reason.
    pub code: Option<String>,
    pub cost: Cost,
}

impl Ended {
    #[must_use]
    pub fn of(finished: &TrialFinished) -> Self {
        let interrupted = finished.reason.as_ref().is_some_and(|reason| reason.code == "interrupted");
        let cost = Cost { usd: finished.usd, tokens: finished.tokens };
        let code = finished.reason.as_ref().map(|reason| reason.code.clone());
        Self { verdict: finished.verdict, interrupted, score: finished.score, code, cost }
    }
}

/// The trials of a plan on their way, in its order.
#[derive(Debug)]
pub struct Queue {
    policy: Policy,
    waiting: VecDeque<Waiting>,
    running: HashMap<TrialId, Waiting>,
    spent: Cost,
    stopped: Option<Stopped>,
    /// How many were told to be missing.
    told: Option<usize>,
    /// Comparisons that were decided, as far as they are not told.
    decided: Vec<Answered>,
}

/// A trial that is to be run.
#[derive(Debug, Clone)]
struct Waiting {
    trial: Arc<TrialPlan>,
    /// How often it may still be tried again.
    retries: u32,
    /// It is tried again: an attempt before counts unless this one ends.
    again: bool,
}

impl Queue {
    #[must_use]
    pub fn new(plan: &[Arc<TrialPlan>], policy: Policy) -> Self {
        let waiting = plan.iter().map(|trial| Waiting { trial: Arc::clone(trial), retries: policy.retries, again: false }).collect();
        let spent = policy.spent;
        let mut queue = Self { spent, waiting, policy, running: HashMap::new(), stopped: None, told: None, decided: Vec::new() };
        // What earlier runs have decided needs no trial more.
        let known = queue.policy.until.as_ref().map(Until::settled).unwrap_or_default();
        queue.settle(&known);
        queue.stop_if_certain();
        queue
    }

    /// The next trial, if it may start now; it has to. None: when a trial has ended there may be one, unless nothing runs.
    pub fn start(&mut self, id: &TrialId, elapsed: Duration) -> Option<Arc<TrialPlan>> {
        if self.stopped.is_some() || self.running.len() >= self.policy.jobs.max(1) {
            return None;
        }
        let budget = &self.policy.budget;
        let next = &self.waiting.front()?.trial;
        self.stopped = budget.over(next, self.spent, elapsed);
        if self.stopped.is_some() {
            return None;
        }
        let reserved = self.running.values().fold(self.spent, |sum, one| sum.and(budget::worst(&one.trial)));
        // What those that run do not use becomes free when they end.
        if !self.running.is_empty() && budget.over(next, reserved, elapsed).is_some() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.running.insert(id.clone(), next.clone());
        Some(next.trial)
    }

    /// A trial has ended. An invalid one is tried again at once, so that the trials of a seed stay together.
    pub fn ended(&mut self, id: &TrialId, ended: &Ended) {
        let Some(Waiting { trial, retries, .. }) = self.running.remove(id) else { return };
        self.spent = self.spent.and(ended.cost);
        if ended.verdict == Verdict::Invalid && !ended.interrupted && retries > 0 && self.needs(&trial) {
            let again = TrialPlan { attempt: trial.attempt + 1, ..TrialPlan::clone(&trial) };
            self.waiting.push_front(Waiting { trial: Arc::new(again), retries: retries - 1, again: true });
            return;
        }
        if let Some(until) = self.policy.until.as_mut().filter(|_| !ended.interrupted) {
            let settled = until.ended(trial.number, ended.verdict, ended.score);
            self.settle(&settled);
        }
        if let Some(certain) = self.policy.certain.as_mut().filter(|_| !ended.interrupted) {
            certain.ended(trial.number, ended.verdict, ended.code.as_deref());
            self.stop_if_certain();
        }
        match ended.verdict {
            Verdict::Pass | Verdict::Invalid => {}
            Verdict::Fail | Verdict::UnsafePass | Verdict::Timeout => {
                if self.policy.fail_fast && trial.role == TrialRole::Subject {
                    self.stopped.get_or_insert_with(|| Stopped::FailFast { trial: id.clone() });
                }
            }
        }
    }

    /// Whether an attempt more of it would be of use.
    fn needs(&self, trial: &TrialPlan) -> bool {
        let settled = |until: &Until| until.is_decided() || until.is_settled(&trial.scenario.variant.name);
        !self.policy.until.as_ref().is_some_and(settled)
    }

    /// Trials of these variants are not needed any more; when nothing is open, none is.
    fn settle(&mut self, variants: &[String]) {
        let Some(until) = &self.policy.until else { return };
        for variant in variants {
            let mut not_needed = 0;
            self.waiting.retain(|one| {
                let goes = one.trial.role == TrialRole::Subject && one.trial.scenario.variant.name == *variant;
                // One that is tried again has begun.
                not_needed += usize::from(goes && !one.again);
                !goes
            });
            self.decided.extend(until.answer(variant, not_needed));
        }
        if until.is_decided() && !matches!(self.stopped, Some(Stopped::Decided { .. })) {
            self.waiting.retain(|one| !one.again);
            self.stopped = Some(Stopped::Decided { comparisons: until.comparisons() });
            // What a budget has left is not missing any more.
            self.told = None;
        }
    }

    /// Nothing that is left could change what the gate says.
    fn stop_if_certain(&mut self) {
        if let Some(why) = self.policy.certain.as_ref().and_then(Certain::why)
            && !matches!(self.stopped, Some(Stopped::Certain { .. }))
        {
            self.stopped = Some(Stopped::Certain { why: why.to_owned() });
            self.told = None;
        }
    }

    /// Why no further trial starts and how many are missing: when that is so and some are, and again when more are.
    pub fn news(&mut self) -> Option<(Stopped, usize)> {
        let missing = self.waiting.len();
        let why = self.stopped.as_ref().filter(|_| missing > self.told.unwrap_or_default())?;
        self.told = Some(missing);
        Some((why.clone(), missing))
    }

    /// Comparisons that were decided since this was asked.
    pub fn decided(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.decided)
    }

    /// What is known of comparisons that are not decided.
    #[must_use]
    pub fn undecided(&self) -> Vec<Answered> {
        self.policy.until.as_ref().map(Until::open).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Resource;
    use crate::scenario::{Overrides, load};

    const ELAPSED: Duration = Duration::from_secs(100);

    fn plan(variant: &str, seeds: &[u64], set: &[&str]) -> Vec<Arc<TrialPlan>> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/node_kill.yaml");
        let set = set.iter().map(|&one| one.to_owned()).collect();
        let overrides = Overrides { variants: vec![variant.into()], seeds: Some(seeds.to_vec()), set, ..Overrides::default() };
        crate::plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials
    }

    fn id(number: usize) -> TrialId {
        TrialId::try_from(format!("t-{number}")).unwrap()
    }

    fn ended(verdict: Verdict, usd: f64) -> Ended {
        Ended { verdict, interrupted: false, score: None, code: None, cost: Cost { usd, tokens: 10 } }
    }

    /// What starts now: number and attempt. Their ids are counted from `first`.
    fn started(queue: &mut Queue, first: usize) -> Vec<(usize, u32)> {
        (first..).map_while(|nth| queue.start(&id(nth), ELAPSED)).map(|trial| (trial.number, trial.attempt)).collect()
    }

    #[test]
    fn trials_start_in_the_order_of_the_plan_as_many_as_there_are_slots() {
        let mut queue = Queue::new(&plan("noop", &[1, 2, 3], &[]), Policy { jobs: 2, ..Policy::default() });
        assert_eq!(started(&mut queue, 1), [(1, 1), (2, 1)]);
        queue.ended(&id(2), &ended(Verdict::Fail, 0.0));
        assert_eq!(started(&mut queue, 3), [(3, 1)]);
        assert_eq!(queue.news(), None);
    }

    #[test]
    fn only_what_is_invalid_is_tried_again_and_only_so_often() {
        let mut queue = Queue::new(&plan("noop", &[1, 2], &[]), Policy { retries: 2, ..Policy::default() });
        assert_eq!(started(&mut queue, 1), [(1, 1)]);
        queue.ended(&id(1), &ended(Verdict::Invalid, 0.0));
        assert_eq!(started(&mut queue, 2), [(1, 2)]);
        queue.ended(&id(2), &ended(Verdict::Invalid, 0.0));
        assert_eq!(started(&mut queue, 3), [(1, 3)]);
        queue.ended(&id(3), &ended(Verdict::Invalid, 0.0));
        assert_eq!(started(&mut queue, 4), [(2, 1)]);
        queue.ended(&id(4), &Ended { interrupted: true, ..ended(Verdict::Invalid, 0.0) });
        assert_eq!(started(&mut queue, 5), []);
    }

    #[test]
    fn the_first_that_does_not_pass_may_be_the_last() {
        let mut queue = Queue::new(&plan("noop", &[1, 2, 3], &[]), Policy { jobs: 2, fail_fast: true, ..Policy::default() });
        started(&mut queue, 1);
        queue.ended(&id(2), &ended(Verdict::UnsafePass, 0.0));
        assert_eq!(started(&mut queue, 3), []);
        assert_eq!(queue.news(), Some((Stopped::FailFast { trial: id(2) }, 1)));
        assert_eq!(queue.news(), None, "told once");
    }

    #[test]
    fn what_a_trial_may_use_is_reserved_before_it_starts() {
        let budget = Budget { usd: Some(5.0), ..Budget::default() };
        let policy = Policy { jobs: 9, budget, spent: Cost { usd: 0.5, tokens: 0 }, ..Policy::default() };
        // Two dollars each, at most.
        let mut queue = Queue::new(&plan("kitchen", &[1, 2, 3, 4, 5], &["limits.usd=2"]), policy);
        assert_eq!(started(&mut queue, 1), [(1, 1), (2, 1)], "a third might bring it to 6.50");
        assert_eq!(queue.news(), None, "but those that run may use less");
        queue.ended(&id(1), &ended(Verdict::Pass, 0.25));
        assert_eq!(started(&mut queue, 3), [(3, 1)]);
        queue.ended(&id(2), &ended(Verdict::Pass, 2.0));
        queue.ended(&id(3), &ended(Verdict::Fail, 1.0));
        assert_eq!(started(&mut queue, 4), []);
        let why = Stopped::Budget { of: Resource::Usd, limit: 5.0, spent: 3.75, next: 2.0 };
        assert_eq!(queue.news(), Some((why, 2)));
    }

    #[test]
    fn what_uses_nothing_of_it_is_within_any_budget() {
        let budget = Budget { usd: Some(0.0), tokens: Some(0), wall: Some(Duration::from_secs(3_600)) };
        let mut queue = Queue::new(&plan("noop", &[1], &[]), Policy { budget, ..Policy::default() });
        assert_eq!(started(&mut queue, 1), [(1, 1)]);
        let kitchen = plan("kitchen", &[1], &["limits={ wall: 10s }"]);
        assert_eq!(budget.unbounded(&kitchen[0]), Some(Resource::Tokens), "its own limit is one of dollars alone");
        assert_eq!(budget.unbounded(&plan("noop", &[1], &[])[0]), None);
        assert_eq!(Budget { tokens: None, ..budget }.unbounded(&kitchen[0]), None);
    }

    #[test]
    fn time_that_is_not_left_starts_nothing() {
        let trials = plan("noop", &[1], &[]);
        let needed = budget::longest(&trials[0].scenario);
        let with = |wall| Queue::new(&trials, Policy { budget: Budget { wall: Some(wall), ..Budget::default() }, ..Policy::default() });
        assert_eq!(started(&mut with(ELAPSED + needed), 1), [(1, 1)]);
        let mut queue = with(ELAPSED + needed / 2);
        assert_eq!(started(&mut queue, 1), []);
        assert!(matches!(queue.news(), Some((Stopped::Budget { of: Resource::Wall, .. }, 1))));
    }
}
