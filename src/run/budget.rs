//! Budgets of a run: what a trial may use at most is reserved before it starts, so that none is ever exceeded.

use std::time::Duration;

use crate::chaos::timeline;
use crate::event::{Resource, Stopped};
use crate::plan::TrialPlan;
use crate::scenario::model::{Budget, Limits, Provider, Scenario};

/// What was used, or may be.
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

impl Budget {
    /// A resource that has a budget, and of which the trial has no limit: it could use up everything.
    #[must_use]
    pub fn unbounded(&self, trial: &TrialPlan) -> Option<Resource> {
        let Limits { usd, tokens, .. } = trial.scenario.limits;
        if !asks_models(&trial.scenario) {
            None
        } else if self.usd.is_some() && usd.is_none() {
            Some(Resource::Usd)
        } else if self.tokens.is_some() && tokens.is_none() {
            Some(Resource::Tokens)
        } else {
            None
        }
    }

    /// Why a trial may not start when so much is used already, or set aside for others.
    #[must_use]
    pub fn over(&self, trial: &TrialPlan, taken: Cost, elapsed: Duration) -> Option<Stopped> {
        let (cost, time) = (worst(trial), longest(&trial.scenario));
        #[expect(clippy::cast_precision_loss, reason = "tokens are far fewer than 2^53")]
        let all = [
            (Resource::Usd, self.usd, taken.usd, cost.usd),
            (Resource::Tokens, self.tokens.map(|limit| limit as f64), taken.tokens as f64, cost.tokens as f64),
            (Resource::Wall, self.wall.map(|limit| limit.as_secs_f64()), elapsed.as_secs_f64(), time.as_secs_f64()),
        ];
        all.into_iter().find_map(|(of, limit, spent, next)| {
            let limit = limit?;
            // A trial that uses nothing is always within a budget, a rounding error too.
            let over = next > 0.0 && spent + next > limit * (1.0 + 1e-9);
            over.then_some(Stopped::Budget { of, limit, spent, next })
        })
    }
}

/// What a trial may use at most, by its limits.
#[must_use]
pub fn worst(trial: &TrialPlan) -> Cost {
    if !asks_models(&trial.scenario) {
        return Cost::default();
    }
    let Limits { usd, tokens, .. } = trial.scenario.limits;
    Cost { usd: usd.unwrap_or_default(), tokens: tokens.unwrap_or_default() }
}

/// The time that a trial's limits allow: ready, steady, the faults, detected, repaired, stable. What the harness itself takes to read
/// back and to clean up is not in it.
#[must_use]
pub fn longest(scenario: &Scenario) -> Duration {
    let timing = &scenario.timing;
    let repair = scenario.limits.wall.max(timing.repair_within);
    timing.ready_within + timing.steady_for + timeline::over(&scenario.chaos) + timing.detect_within + repair + timing.stable_for
}

/// Whether its agent asks models that cost something. Cassettes do not.
#[must_use]
pub fn asks_models(scenario: &Scenario) -> bool {
    match &scenario.variant.provider {
        Provider::Model(model) => model.cassettes.is_none(),
        Provider::Command(program) => !program.models.is_empty(),
        Provider::Scripted { .. } | Provider::Noop | Provider::RestartAll | Provider::Oracle => false,
    }
}
