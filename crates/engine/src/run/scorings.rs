//! Scorings of the trials of a run, as events of the record. These events allow a later evaluation of the trials without the scoring files.

use std::sync::Arc;

use indexmap::IndexMap;

use chaosrun_event::EventKind;
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::digest;
use chaosrun_scenario::model::Scoring;

/// Returns one event for each distinct scoring of the trials.
#[must_use]
pub fn declared(trials: &[Arc<TrialPlan>]) -> Vec<EventKind> {
    let mut scorings: IndexMap<*const Scoring, &Arc<Scoring>> = IndexMap::new();
    for trial in trials {
        scorings.entry(Arc::as_ptr(&trial.scenario.scoring)).or_insert(&trial.scenario.scoring);
    }
    // Scorings with the same digest are merged, because two files may have the same content.
    let by_digest: IndexMap<String, &Arc<Scoring>> = scorings.into_values().map(|scoring| (digest::scoring(scoring), scoring)).collect();
    let event = |(digest, scoring): (String, &Arc<Scoring>)| EventKind::ScoringDeclared {
        digest,
        name: scoring.name.clone(),
        scoring: scoring.written.clone(),
        autopsy: scoring.autopsy.written.clone(),
    };
    by_digest.into_iter().map(event).collect()
}
