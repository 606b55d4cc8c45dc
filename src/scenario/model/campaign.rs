//! Many trials with one question.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::maybe_duration;
use crate::diagnostic::SourceFile;

/// What a campaign's file says, but for its trials.
#[derive(Debug, Clone, Serialize)]
pub struct Campaign {
    pub name: String,
    pub description: String,
    pub budget: Budget,
    pub compare: Option<Compare>,
    /// How often an invalid trial is tried again.
    pub retries: u32,
    /// Whether the first failure ends it.
    pub fail_fast: bool,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
}

/// What all trials together may use. None = no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Budget {
    pub usd: Option<f64>,
    #[serde(serialize_with = "maybe_duration")]
    pub wall: Option<Duration>,
    pub tokens: Option<u64>,
}

/// What is asked of the trials.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compare {
    /// The variant that the others are compared with.
    pub reference: String,
    pub metric: Metric,
    /// How much worse still counts as not worse, in the metric's unit: a share, or seconds.
    pub margin: f64,
}

/// What two agents are compared by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The share of trials that pass.
    #[default]
    Pass,
    /// The score, 0 to 1.
    Score,
    /// Seconds from the ticket to the objective holding.
    RepairS,
    /// Client error-seconds.
    HurtS,
}

impl Metric {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Score => "score",
            Self::RepairS => "repair_s",
            Self::HurtS => "hurt_s",
        }
    }

    /// How much worse still counts as not worse, where nobody says.
    #[must_use]
    pub const fn default_margin(self) -> f64 {
        match self {
            Self::Pass | Self::Score => 0.1,
            Self::RepairS | Self::HurtS => 1.0,
        }
    }
}
