//! What trials of a run are judged by, for the record: whoever has it can judge them again without the files.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::event::Kind;
use crate::plan::{TrialPlan, digest};
use crate::scenario::model::Scoring;

/// One event for each scoring.
#[must_use]
pub fn declared(trials: &[Arc<TrialPlan>]) -> Vec<Kind> {
    let mut scorings: IndexMap<*const Scoring, &Arc<Scoring>> = IndexMap::new();
    for trial in trials {
        scorings.entry(Arc::as_ptr(&trial.scenario.scoring)).or_insert(&trial.scenario.scoring);
    }
    // Two files may say the same.
    let by_digest: IndexMap<String, &Arc<Scoring>> = scorings.into_values().map(|scoring| (digest::scoring(scoring), scoring)).collect();
    let event = |(digest, scoring): (String, &Arc<Scoring>)| Kind::ScoringDeclared {
        digest,
        name: scoring.name.clone(),
        scoring: scoring.written.clone(),
        autopsy: scoring.autopsy.written.clone(),
    };
    by_digest.into_iter().map(event).collect()
}
