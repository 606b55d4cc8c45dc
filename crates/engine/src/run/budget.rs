//! Budgets of a run. Before a trial starts, the maximum cost of the trial is reserved, so that the run never exceeds a budget.

use std::time::Duration;

use chaosrun_event::{Resource, Stopped};
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::model::{Budget, Limits, Provider, Scenario};
use chaosrun_scenario::timeline;

/// Amounts of resources that trials have used, or may use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    pub usd: f64,
    pub tokens: u64,
}

impl Cost {
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { usd: self.usd + other.usd, tokens: self.tokens + other.tokens }
    }
}

/// Returns a resource that has a budget in the run but no limit in the trial. Such a trial could use the whole budget.
#[must_use]
pub fn unbounded(budget: &Budget, trial: &TrialPlan) -> Option<Resource> {
    let Limits { usd, tokens, .. } = trial.scenario.limits;
    if !asks_models(&trial.scenario) {
        None
    } else if budget.usd.is_some() && usd.is_none() {
        Some(Resource::Usd)
    } else if budget.tokens.is_some() && tokens.is_none() {
        Some(Resource::Tokens)
    } else {
        None
    }
}

/// Returns the reason why a trial may not start; `None` if it may start. `taken` is the cost that is used by or reserved for other trials.
#[must_use]
pub fn over(budget: &Budget, trial: &TrialPlan, taken: Cost, elapsed: Duration) -> Option<Stopped> {
    let (cost, time) = (worst(trial), longest(&trial.scenario));
    #[expect(clippy::cast_precision_loss, reason = "tokens are far fewer than 2^53")]
    let all = [
        (Resource::Usd, budget.usd, taken.usd, cost.usd),
        (Resource::Tokens, budget.tokens.map(|limit| limit as f64), taken.tokens as f64, cost.tokens as f64),
        (Resource::Wall, budget.wall.map(|limit| limit.as_secs_f64()), elapsed.as_secs_f64(), time.as_secs_f64()),
    ];
    all.into_iter().find_map(|(of, limit, spent, next)| {
        let limit = limit?;
        // A trial that uses none of the resource is always within its budget. The factor allows for rounding errors.
        let over = next > 0.0 && spent + next > limit * (1.0 + 1e-9);
        over.then_some(Stopped::Budget { of, limit, spent, next })
    })
}

/// Returns the maximum cost of a trial, according to its limits.
#[must_use]
pub fn worst(trial: &TrialPlan) -> Cost {
    if !asks_models(&trial.scenario) {
        return Cost::default();
    }
    let Limits { usd, tokens, .. } = trial.scenario.limits;
    Cost { usd: usd.unwrap_or_default(), tokens: tokens.unwrap_or_default() }
}

/// Returns the maximum duration of a trial, according to its limits: ready, steady, faults, detection, repair, stable. The time that
/// chaosrun itself needs for reading back and cleaning up is not included.
#[must_use]
pub fn longest(scenario: &Scenario) -> Duration {
    let timing = &scenario.timing;
    let repair = scenario.limits.wall.max(timing.repair_within);
    timing.ready_within + timing.steady_for + timeline::over(&scenario.chaos) + timing.detect_within + repair + timing.stable_for
}

/// Returns true if the agent sends requests to models that cost money. Requests that a cassette answers cost nothing.
#[must_use]
pub fn asks_models(scenario: &Scenario) -> bool {
    match &scenario.variant.provider {
        Provider::Model(model) => model.cassettes.is_none(),
        Provider::Command(program) => !program.models.is_empty(),
        Provider::Scripted { .. } | Provider::Noop | Provider::RestartAll | Provider::Oracle => false,
    }
}
