//! One trial before it runs.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::{Targets, digest};
use crate::event::{TrialRole, TrialStarted};
use crate::scenario::model::{Backend, Goal, Scenario};

#[derive(Debug, Clone, Serialize)]
pub struct TrialPlan {
    /// From 1.
    pub number: usize,
    /// With the variant of this trial and its limits applied.
    #[serde(skip)]
    pub scenario: Arc<Scenario>,
    pub seed: u64,
    /// From 1.
    pub repeat: usize,
    /// From 1: an invalid trial may be tried again.
    pub attempt: u32,
    pub role: TrialRole,
    /// The values of the matrix's paths, without `seed` and `agent.variant`.
    pub cell: IndexMap<String, Value>,
    /// Digest of what must be equal to compare: scenario, cluster, scoring, semantics.
    pub yardstick: String,
    /// Digest of what is compared: the variant.
    pub subject: String,
    pub targets: Targets,
    /// Digests of its images by role, known once they are there; none on `local`.
    pub images: IndexMap<String, String>,
}

impl TrialPlan {
    /// The event that opens the trial.
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

impl Backend {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
        }
    }
}

impl Goal {
    pub const ALL: [Self; 4] = [Self::Repair, Self::Wait, Self::Escalate, Self::Nothing];

    /// The goal of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|goal| goal.as_str() == name)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Wait => "wait",
            Self::Escalate => "escalate",
            Self::Nothing => "nothing",
        }
    }
}
