//! Campaign: many trials that together answer one question.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::maybe_duration;
use chaosrun_diagnostic::SourceFile;

/// Resolved campaign file, without the trials of its scenarios.
#[derive(Debug, Clone, Serialize)]
pub struct Campaign {
    pub name: String,
    pub description: String,
    pub budget: Budget,
    pub compare: Option<Compare>,
    /// Maximum number of further attempts at an invalid trial.
    pub retries: u32,
    /// True if the campaign stops after the first failed trial.
    pub fail_fast: bool,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
}

/// Budget that all trials of a campaign share. `None` means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Budget {
    pub usd: Option<f64>,
    #[serde(serialize_with = "maybe_duration")]
    pub wall: Option<Duration>,
    pub tokens: Option<u64>,
}

/// Comparison that the campaign makes between its variants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compare {
    /// Name of the variant with which the other variants are compared.
    pub reference: String,
    pub metric: Metric,
    /// Non-inferiority margin in the unit of the metric, which is a rate or a number of seconds.
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

    /// Returns the default non-inferiority margin for this metric.
    #[must_use]
    pub const fn default_margin(self) -> f64 {
        match self {
            Self::Pass | Self::Score => 0.1,
            Self::RepairS | Self::ImpactS => 1.0,
        }
    }
}
