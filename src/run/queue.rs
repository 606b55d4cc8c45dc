//! Which trial starts next, and when none does any more: pure, so that it is tested without running anything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::budget::{self, Cost};
use crate::event::{Stopped, TrialFinished, TrialRole, Verdict};
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
}

/// What matters of the end of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub verdict: Verdict,
    /// By a person: it is not tried again.
    pub interrupted: bool,
    pub cost: Cost,
}

impl Ended {
    #[must_use]
    pub fn of(finished: &TrialFinished) -> Self {
        let interrupted = finished.reason.as_ref().is_some_and(|reason| reason.code == "interrupted");
        Self { verdict: finished.verdict, interrupted, cost: Cost { usd: finished.usd, tokens: finished.tokens } }
    }
}

/// The trials of a plan on their way, in its order.
#[derive(Debug)]
pub struct Queue {
    policy: Policy,
    /// With how often each may still be tried again.
    waiting: VecDeque<(Arc<TrialPlan>, u32)>,
    running: HashMap<TrialId, (Arc<TrialPlan>, u32)>,
    spent: Cost,
    stopped: Option<Stopped>,
    told: bool,
}

impl Queue {
    #[must_use]
    pub fn new(plan: &[Arc<TrialPlan>], policy: Policy) -> Self {
        let waiting = plan.iter().map(|trial| (Arc::clone(trial), policy.retries)).collect();
        Self { spent: policy.spent, waiting, policy, running: HashMap::new(), stopped: None, told: false }
    }

    /// The next trial, if it may start now; it has to. None: when a trial has ended there may be one, unless nothing runs.
    pub fn start(&mut self, id: &TrialId, elapsed: Duration) -> Option<Arc<TrialPlan>> {
        if self.stopped.is_some() || self.running.len() >= self.policy.jobs.max(1) {
            return None;
        }
        let budget = &self.policy.budget;
        let (next, _) = self.waiting.front()?;
        self.stopped = budget.over(next, self.spent, elapsed);
        if self.stopped.is_some() {
            return None;
        }
        let reserved = self.running.values().fold(self.spent, |sum, (trial, _)| sum.and(budget::worst(trial)));
        // What those that run do not use becomes free when they end.
        if !self.running.is_empty() && budget.over(next, reserved, elapsed).is_some() {
            return None;
        }
        let (next, retries) = self.waiting.pop_front()?;
        self.running.insert(id.clone(), (Arc::clone(&next), retries));
        Some(next)
    }

    /// A trial has ended. An invalid one is tried again at once, so that the trials of a seed stay together.
    pub fn ended(&mut self, id: &TrialId, ended: &Ended) {
        let Some((trial, retries)) = self.running.remove(id) else { return };
        self.spent = self.spent.and(ended.cost);
        match ended.verdict {
            Verdict::Invalid if !ended.interrupted && retries > 0 => {
                let again = TrialPlan { attempt: trial.attempt + 1, ..TrialPlan::clone(&trial) };
                self.waiting.push_front((Arc::new(again), retries - 1));
            }
            Verdict::Pass | Verdict::Invalid => {}
            Verdict::Fail | Verdict::UnsafePass | Verdict::Timeout => {
                if self.policy.fail_fast && trial.role == TrialRole::Subject {
                    self.stopped.get_or_insert_with(|| Stopped::FailFast { trial: id.clone() });
                }
            }
        }
    }

    /// Why no further trial starts and how many are missing: once, when that is so and some are.
    pub fn news(&mut self) -> Option<(Stopped, usize)> {
        let why = self.stopped.as_ref().filter(|_| !self.told && !self.waiting.is_empty())?;
        self.told = true;
        Some((why.clone(), self.waiting.len()))
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
        Ended { verdict, interrupted: false, cost: Cost { usd, tokens: 10 } }
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
