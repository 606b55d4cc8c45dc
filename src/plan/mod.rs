//! What a run will do, before anything is done: cells of the matrix, seeds, repeats and variants become trials. Pure.

pub mod digest;
mod preview;
pub mod seed;
pub mod target;
mod trial;

use std::sync::Arc;

use indexmap::IndexMap;

use crate::event::{TrialRole, Verdict};
use crate::scenario::{Cell, Loaded, model::Scenario};

pub use trial::TrialPlan;

/// All trials, in the order in which they are started.
#[derive(Debug, Clone)]
pub struct Plan {
    pub trials: Vec<Arc<TrialPlan>>,
}

/// A test of the scenario itself: a trial and the verdicts that are right.
#[derive(Debug, Clone)]
pub struct CheckPlan {
    pub name: String,
    pub trial: Arc<TrialPlan>,
    pub expect: Vec<Verdict>,
}

impl Plan {
    /// Several plans one after the other, numbered through.
    #[must_use]
    pub fn joined(plans: Vec<Self>) -> Self {
        let trials = plans.into_iter().flat_map(|plan| plan.trials);
        let numbered = trials.enumerate().map(|(place, trial)| {
            if trial.number == place + 1 { trial } else { Arc::new(TrialPlan { number: place + 1, ..TrialPlan::clone(&trial) }) }
        });
        Self { trials: numbered.collect() }
    }
}

/// Plans a loaded scenario. All variants of one seed stand together, so that what interrupts a run leaves pairs.
#[must_use]
pub fn plan(loaded: &Loaded) -> Plan {
    let mut trials = Vec::new();
    for cell in &loaded.cells {
        let yardstick = cell.subjects.first().or(cell.controls.first()).map(|one| digest::yardstick(one)).unwrap_or_default();
        let entries: Vec<(&Arc<Scenario>, TrialRole, String)> = cell
            .subjects
            .iter()
            .map(|one| (one, TrialRole::Subject))
            .chain(cell.controls.iter().map(|one| (one, TrialRole::Control)))
            .map(|(one, role)| (one, role, digest::subject(&one.variant, &one.cluster)))
            .collect();
        for seed in &loaded.seeds {
            for repeat in 1..=loaded.repeat {
                for (scenario, role, subject) in &entries {
                    trials.push(Arc::new(TrialPlan {
                        number: trials.len() + 1,
                        scenario: Arc::clone(scenario),
                        seed: *seed,
                        repeat,
                        attempt: 1,
                        role: *role,
                        cell: cell.values.clone(),
                        yardstick: yardstick.clone(),
                        subject: subject.clone(),
                        targets: preview::targets(scenario, *seed),
                        images: IndexMap::new(),
                    }));
                }
            }
        }
    }
    Plan { trials }
}

/// Plans the scenario's own tests, on the first cell and the first seed.
#[must_use]
pub fn checks(loaded: &Loaded) -> Vec<CheckPlan> {
    let Some(Cell { values, subjects, .. }) = loaded.cells.first() else { return Vec::new() };
    let (Some(scenario), Some(seed)) = (subjects.first(), loaded.seeds.first().copied()) else { return Vec::new() };
    let mut plans = Vec::new();
    for (name, check) in &scenario.check {
        let Some(variant) = &check.variant else { continue };
        let mut own = scenario.with_variant(variant);
        own.timing = check.timing.clone();
        let trial = TrialPlan {
            number: plans.len() + 1,
            yardstick: digest::yardstick(&own),
            subject: digest::subject(variant, &scenario.cluster),
            targets: preview::targets(&own, seed),
            scenario: Arc::new(own),
            seed,
            repeat: 1,
            attempt: 1,
            role: TrialRole::Check,
            cell: values.clone(),
            images: IndexMap::new(),
        };
        plans.push(CheckPlan { name: name.clone(), trial: Arc::new(trial), expect: check.expect.clone() });
    }
    plans
}

/// Where the faults of a trial will strike, by fault id; none where it is chosen when injected.
pub type Targets = IndexMap<String, Option<Vec<String>>>;
