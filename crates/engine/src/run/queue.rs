//! Queue of trials: decides which trial starts next, and when no further trial starts. The queue does no IO, so tests run no trials.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::budget::{self, Cost};
use super::early_stopping::EarlyStopping;
use chaosrun_analysis::gate::certain_regression::CertainRegression;
use chaosrun_base::ids::TrialId;
use chaosrun_event::{ComparisonProgress, ReasonCode, Stopped, TrialFinished, TrialRole, Verdict};
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::model::Budget;

/// Policy that determines the execution of the trials of a plan.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Maximum number of parallel trials; 0 counts as 1.
    pub jobs: usize,
    /// Maximum number of retries of an invalid trial.
    pub retries: u32,
    /// True if no further trial starts after a valid trial of the subject (the agent under test) that did not pass.
    pub fail_fast: bool,
    pub budget: Budget,
    /// Cost of the trials of the same plan in earlier runs.
    pub spent: Cost,
    /// Comparisons to decide, including results of earlier runs. A decided comparison removes the waiting trials of its variant. The run
    /// ends when all comparisons are decided.
    pub until: Option<EarlyStopping>,
    /// Conditions under which the result of the gate is certain. The run ends as soon as these conditions are met.
    pub certain: Option<CertainRegression>,
}

/// Result of an ended trial, as input of the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedTrial {
    pub verdict: Verdict,
    /// True if a user interrupted the trial. An interrupted trial is not retried.
    pub interrupted: bool,
    pub score: Option<f64>,
    /// Reason code of the verdict; `None` without a reason.
    pub code: Option<ReasonCode>,
    pub cost: Cost,
}

impl EndedTrial {
    #[must_use]
    pub fn of(finished: &TrialFinished) -> Self {
        let code = finished.reason.as_ref().map(|reason| reason.code.clone());
        let interrupted = matches!(code, Some(ReasonCode::Interrupted));
        let cost = Cost { usd: finished.usd, tokens: finished.tokens };
        Self { verdict: finished.verdict, interrupted, score: finished.score, code, cost }
    }
}

/// Queue of the waiting and running trials of a plan, in the order of the plan.
#[derive(Debug)]
pub(crate) struct TrialQueue {
    policy: Policy,
    waiting: VecDeque<Waiting>,
    running: HashMap<TrialId, Waiting>,
    spent: Cost,
    stopped: Option<Stopped>,
    /// Number of missing trials in the last notice; `None` before the first notice.
    told: Option<usize>,
    /// Comparisons that were decided and have not been reported.
    decided: Vec<ComparisonProgress>,
}

/// Trial of the queue that waits for its start.
#[derive(Debug, Clone)]
struct Waiting {
    trial: Arc<TrialPlan>,
    /// Number of remaining retries of the trial.
    retries: u32,
    /// True if this is a retry. The result of the previous attempt counts until the retry has ended.
    again: bool,
}

impl TrialQueue {
    #[must_use]
    pub fn new(plan: &[Arc<TrialPlan>], policy: Policy) -> Self {
        let waiting = plan.iter().map(|trial| Waiting { trial: Arc::clone(trial), retries: policy.retries, again: false }).collect();
        let spent = policy.spent;
        let mut queue = Self { spent, waiting, policy, running: HashMap::new(), stopped: None, told: None, decided: Vec::new() };
        // Variants whose comparison earlier runs have decided need no further trial.
        let known = queue.policy.until.as_ref().map(EarlyStopping::settled).unwrap_or_default();
        queue.settle(&known);
        queue.stop_if_certain();
        queue
    }

    /// Returns the next trial if a trial may start now. The caller must start the returned trial. After `None`, a trial may become
    /// available when a running trial ends.
    pub fn start(&mut self, id: &TrialId, elapsed: Duration) -> Option<Arc<TrialPlan>> {
        if self.stopped.is_some() || self.running.len() >= self.policy.jobs.max(1) {
            return None;
        }
        let budget = &self.policy.budget;
        let next = &self.waiting.front()?.trial;
        self.stopped = budget::over(budget, next, self.spent, elapsed);
        if self.stopped.is_some() {
            return None;
        }
        let reserved = self.running.values().fold(self.spent, |sum, one| sum.and(budget::worst(&one.trial)));
        // The queue waits for the end of running trials, because they may not use all their reserved resources.
        if !self.running.is_empty() && budget::over(budget, next, reserved, elapsed).is_some() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.running.insert(id.clone(), next.clone());
        Some(next.trial)
    }

    /// Processes the end of a trial. An invalid trial is retried immediately, so that the trials of a seed run close together.
    pub fn ended(&mut self, id: &TrialId, ended: &EndedTrial) {
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
            certain.ended(trial.number, ended.verdict, ended.code.as_ref());
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

    /// Returns true if another attempt of the trial is useful.
    fn needs(&self, trial: &TrialPlan) -> bool {
        let settled = |until: &EarlyStopping| until.is_decided() || until.is_settled(&trial.scenario.variant.name);
        !self.policy.until.as_ref().is_some_and(settled)
    }

    /// Removes the waiting trials of these variants, because their comparison needs no further trial. If no comparison is open, removes all
    /// retries and stops the run.
    fn settle(&mut self, variants: &[String]) {
        let Some(until) = &self.policy.until else { return };
        for variant in variants {
            let mut not_needed = 0;
            self.waiting.retain(|one| {
                let goes = one.trial.role == TrialRole::Subject && one.trial.scenario.variant.name == *variant;
                // A removed retry does not count, because its trial has already begun.
                not_needed += usize::from(goes && !one.again);
                !goes
            });
            self.decided.extend(until.answer(variant, not_needed));
        }
        if until.is_decided() && !matches!(self.stopped, Some(Stopped::Decided { .. })) {
            self.waiting.retain(|one| !one.again);
            self.stopped = Some(Stopped::Decided { comparisons: until.comparisons() });
            // Trials that a budget prevented are no longer missing, so the next notice counts anew.
            self.told = None;
        }
    }

    /// Stops the run if the remaining trials cannot change the result of the gate.
    fn stop_if_certain(&mut self) {
        if let Some(why) = self.policy.certain.as_ref().and_then(CertainRegression::why)
            && !matches!(self.stopped, Some(Stopped::Certain { .. }))
        {
            self.stopped = Some(Stopped::Certain { why: why.to_owned() });
            self.told = None;
        }
    }

    /// Returns the reason why no further trial starts, and the number of missing trials. Returns each notice once, and again if the number
    /// has grown.
    pub fn news(&mut self) -> Option<(Stopped, usize)> {
        let missing = self.waiting.len();
        let why = self.stopped.as_ref().filter(|_| missing > self.told.unwrap_or_default())?;
        self.told = Some(missing);
        Some((why.clone(), missing))
    }

    /// Returns the comparisons that were decided since the last call.
    pub fn decided(&mut self) -> Vec<ComparisonProgress> {
        std::mem::take(&mut self.decided)
    }

    /// Returns the interim results of the comparisons that are not decided.
    #[must_use]
    pub fn undecided(&self) -> Vec<ComparisonProgress> {
        self.policy.until.as_ref().map(EarlyStopping::open).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::Resource;
    use chaosrun_scenario::{Overrides, load};

    const ELAPSED: Duration = Duration::from_secs(100);

    fn plan(variant: &str, seeds: &[u64], set: &[&str]) -> Vec<Arc<TrialPlan>> {
        let file = concat!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "/scenarios/node_kill.yaml");
        let set = set.iter().map(|&one| one.to_owned()).collect();
        let overrides = Overrides { variants: vec![variant.into()], seeds: Some(seeds.to_vec()), set, ..Overrides::default() };
        chaosrun_plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials
    }

    fn id(number: usize) -> TrialId {
        TrialId::try_from(format!("t-{number}")).unwrap()
    }

    fn ended(verdict: Verdict, usd: f64) -> EndedTrial {
        EndedTrial { verdict, interrupted: false, score: None, code: None, cost: Cost { usd, tokens: 10 } }
    }

    /// Starts all trials that may start now. Returns number and attempt of each trial. The ids of the trials are counted from `first`.
    fn started(queue: &mut TrialQueue, first: usize) -> Vec<(usize, u32)> {
        (first..).map_while(|nth| queue.start(&id(nth), ELAPSED)).map(|trial| (trial.number, trial.attempt)).collect()
    }

    #[test]
    fn trials_start_in_plan_order_up_to_the_number_of_slots() {
        let mut queue = TrialQueue::new(&plan("noop", &[1, 2, 3], &[]), Policy { jobs: 2, ..Policy::default() });
        assert_eq!(started(&mut queue, 1), [(1, 1), (2, 1)]);
        queue.ended(&id(2), &ended(Verdict::Fail, 0.0));
        assert_eq!(started(&mut queue, 3), [(3, 1)]);
        assert_eq!(queue.news(), None);
    }

    #[test]
    fn only_invalid_trials_are_retried_up_to_the_limit() {
        let mut queue = TrialQueue::new(&plan("noop", &[1, 2], &[]), Policy { retries: 2, ..Policy::default() });
        assert_eq!(started(&mut queue, 1), [(1, 1)]);
        queue.ended(&id(1), &ended(Verdict::Invalid, 0.0));
        assert_eq!(started(&mut queue, 2), [(1, 2)]);
        queue.ended(&id(2), &ended(Verdict::Invalid, 0.0));
        assert_eq!(started(&mut queue, 3), [(1, 3)]);
        queue.ended(&id(3), &ended(Verdict::Invalid, 0.0));
        assert_eq!(started(&mut queue, 4), [(2, 1)]);
        queue.ended(&id(4), &EndedTrial { interrupted: true, ..ended(Verdict::Invalid, 0.0) });
        assert_eq!(started(&mut queue, 5), []);
    }

    #[test]
    fn fail_fast_stops_after_the_first_failure() {
        let mut queue = TrialQueue::new(&plan("noop", &[1, 2, 3], &[]), Policy { jobs: 2, fail_fast: true, ..Policy::default() });
        started(&mut queue, 1);
        queue.ended(&id(2), &ended(Verdict::UnsafePass, 0.0));
        assert_eq!(started(&mut queue, 3), []);
        assert_eq!(queue.news(), Some((Stopped::FailFast { trial: id(2) }, 1)));
        assert_eq!(queue.news(), None, "told once");
    }

    #[test]
    fn maximum_cost_of_a_trial_is_reserved_before_its_start() {
        let budget = Budget { usd: Some(5.0), ..Budget::default() };
        let policy = Policy { jobs: 9, budget, spent: Cost { usd: 0.5, tokens: 0 }, ..Policy::default() };
        // Each trial costs at most two dollars.
        let mut queue = TrialQueue::new(&plan("kitchen", &[1, 2, 3, 4, 5], &["limits.usd=2"]), policy);
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
    fn trial_without_cost_is_within_any_budget() {
        let budget = Budget { usd: Some(0.0), tokens: Some(0), wall: Some(Duration::from_secs(3_600)) };
        let mut queue = TrialQueue::new(&plan("noop", &[1], &[]), Policy { budget, ..Policy::default() });
        assert_eq!(started(&mut queue, 1), [(1, 1)]);
        let kitchen = plan("kitchen", &[1], &["limits={ wall: 10s }"]);
        assert_eq!(budget::unbounded(&budget, &kitchen[0]), Some(Resource::Tokens), "its own limit is one of dollars alone");
        assert_eq!(budget::unbounded(&budget, &plan("noop", &[1], &[])[0]), None);
        assert_eq!(budget::unbounded(&Budget { tokens: None, ..budget }, &kitchen[0]), None);
    }

    #[test]
    fn exhausted_time_budget_starts_no_trial() {
        let trials = plan("noop", &[1], &[]);
        let needed = budget::longest(&trials[0].scenario);
        let with =
            |wall| TrialQueue::new(&trials, Policy { budget: Budget { wall: Some(wall), ..Budget::default() }, ..Policy::default() });
        assert_eq!(started(&mut with(ELAPSED + needed), 1), [(1, 1)]);
        let mut queue = with(ELAPSED + needed / 2);
        assert_eq!(started(&mut queue, 1), []);
        assert!(matches!(queue.news(), Some((Stopped::Budget { of: Resource::Wall, .. }, 1))));
    }
}
