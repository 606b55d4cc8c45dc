//! Planned trial, with everything that is known before the trial starts.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use crate::Targets;
use chaosrun_event::{TrialRole, TrialStarted};
use chaosrun_scenario::digest;
use chaosrun_scenario::model::Scenario;

#[derive(Debug, Clone, Serialize)]
pub struct TrialPlan {
    /// Number of the trial in the plan, starting at 1.
    pub number: usize,
    /// Scenario of the trial, with the variant and its limits applied.
    #[serde(skip)]
    pub scenario: Arc<Scenario>,
    pub seed: u64,
    /// Number of the repeat of the same seed, starting at 1.
    pub repeat: usize,
    /// Number of the attempt, starting at 1. An invalid trial may have further attempts.
    pub attempt: u32,
    pub role: TrialRole,
    /// Values of the matrix by their paths. `seed` and `agent.variant` are excluded.
    pub cell: IndexMap<String, Value>,
    /// Digest of everything that must be equal in two compared trials: scenario, cluster, scoring and semantics version.
    pub yardstick: String,
    /// Digest of the variant. Comparisons compare trials with different subjects.
    pub subject: String,
    pub targets: Targets,
    /// Digests of the container images of the trial by role. They are known when the images are present. The map is empty on the backend
    /// `local`.
    pub images: IndexMap<String, String>,
}

impl TrialPlan {
    /// Creates the event that reports the start of the trial.
    #[must_use]
    pub fn started(&self) -> TrialStarted {
        let scenario = &self.scenario;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        TrialStarted {
            scenario: scenario.name.clone(),
            description: scenario.description.clone(),
            file: scenario.file.name.clone(),
            variant: scenario.variant.name.clone(),
            number: self.number,
            seed: self.seed,
            repeat: self.repeat,
            attempt: self.attempt,
            backend: scenario.backend.as_str().to_owned(),
            standin: scenario.cluster.standin,
            goal: scenario.goal.as_str().to_owned(),
            role: self.role,
            cell: self.cell.clone(),
            yardstick: digest::with_images(&self.yardstick, &self.images),
            subject: self.subject.clone(),
            images: self.images.clone(),
            clock_scale: scenario.cluster.clock_scale,
            steady_for_us: micros(scenario.timing.steady_for),
            detect_within_us: micros(scenario.timing.detect_within),
            repair_within_us: micros(scenario.timing.repair_within),
            stable_for_us: micros(scenario.timing.stable_for),
        }
    }
}
