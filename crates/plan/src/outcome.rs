//! Results of recorded trials, with the data that plans, forecasts and comparisons need.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{ReasonCode, TrialRole, Verdict};

/// Result of one recorded trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialOutcome {
    /// Id of the trial. `None` if the trial comes from a baseline file and not from the record.
    pub trial: Option<TrialId>,
    pub run: Option<RunId>,
    /// Number of the trial in the plan of its run, starting at 1. It is 0 for a trial of a baseline.
    pub number: usize,
    pub scenario: String,
    pub file: String,
    pub variant: String,
    pub seed: u64,
    /// Number of the repeat of the same seed, starting at 1.
    pub repeat: usize,
    /// Number of the attempt, starting at 1. An invalid trial may have further attempts.
    pub attempt: u32,
    pub backend: String,
    pub role: TrialRole,
    /// Values of the matrix by their paths, as JSON text.
    pub cell: String,
    pub yardstick: String,
    pub subject: String,
    /// Verdict of the trial. `None` if the trial is still running or was cut off.
    pub verdict: Option<Verdict>,
    pub score: Option<f64>,
    pub scorer_version: Option<u32>,
    pub reason_code: Option<ReasonCode>,
    pub reason: Option<String>,
    pub detect_us: Option<u64>,
    pub diagnose_us: Option<u64>,
    pub repair_us: Option<u64>,
    pub impact_us: Option<u64>,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
}

/// Cost and duration of one recorded trial with a counted verdict. Forecasts are based on these values.
#[derive(Debug, Clone)]
pub struct Past {
    pub scenario: String,
    pub backend: String,
    pub yardstick: String,
    pub subject: String,
    pub verdict: Verdict,
    pub wall_us: u64,
    /// Number of tokens that the trial used. `None` if the trial used no model.
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
}

/// Formats the values of the matrix as JSON text. The values are sorted by path, so the text does not depend on their order in the file.
#[must_use]
pub fn cell(values: &IndexMap<String, Value>) -> String {
    let sorted: BTreeMap<&String, &Value> = values.iter().collect();
    serde_json::to_string(&sorted).unwrap_or_default()
}
