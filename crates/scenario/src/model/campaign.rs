//! Campaign: many trials that together answer one question.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::maybe_duration;
use chaosrun_diagnostic::SourceFile;

/// Content of a campaign's file, except its trials.
#[derive(Debug, Clone, Serialize)]
pub struct Campaign {
    pub name: String,
    pub description: String,
    pub budget: Budget,
    pub compare: Option<Compare>,
    /// Number of further attempts at an invalid trial.
    pub retries: u32,
    /// True if the campaign stops at the first failure.
    pub fail_fast: bool,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
}

/// Budget of all trials together. `None` means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Budget {
    pub usd: Option<f64>,
    #[serde(serialize_with = "maybe_duration")]
    pub wall: Option<Duration>,
    pub tokens: Option<u64>,
}

/// Comparison of the trials.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compare {
    /// Variant that the other variants are compared with.
    pub reference: String,
    pub metric: Metric,
    /// Non-inferiority margin in the unit of the metric: a rate, or seconds.
    pub margin: f64,
}

/// Metric of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of trials that pass.
    #[default]
    Pass,
    /// Score, from 0 to 1.
    Score,
    /// Seconds from the ticket until all objectives hold.
    RepairS,
    /// Impact on users in client error-seconds.
    ImpactS,
}

impl Metric {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Score => "score",
            Self::RepairS => "repair_s",
            Self::ImpactS => "impact_s",
        }
    }

    /// Returns the default non-inferiority margin.
    #[must_use]
    pub const fn default_margin(self) -> f64 {
        match self {
            Self::Pass | Self::Score => 0.1,
            Self::RepairS | Self::ImpactS => 1.0,
        }
    }
}
