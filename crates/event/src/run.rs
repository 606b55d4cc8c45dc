//! Relation of a run to other runs: trials that are already recorded, and reasons to start no more trials.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reason, TrialRole, Verdict};
use chaosrun_base::ids::{RunId, TrialId};

/// Trial of the plan that an earlier run has finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReusedTrial {
    pub trial: TrialId,
    /// Run that recorded the trial.
    pub run: RunId,
    /// Number of the trial in the plan of this run.
    pub number: usize,
    pub scenario: String,
    pub variant: String,
    pub seed: u64,
    pub backend: String,
    pub role: TrialRole,
    pub attempt: u32,
    pub verdict: Verdict,
    pub score: Option<f64>,
    /// Code and message of the reason.
    pub reason: Option<Box<Reason>>,
    pub repair_us: Option<u64>,
    pub wall_us: u64,
    pub tokens: u64,
    pub usd: f64,
}

/// Reason why no further trial is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Stopped {
    /// The next trial could use more than is left of the budget.
    Budget {
        of: Resource,
        limit: f64,
        /// Amount used by all trials of the plan that have ended, including those recorded before.
        spent: f64,
        /// Maximum that the next trial may use.
        next: f64,
    },
    /// A trial did not pass, and the run stops at the first failure.
    FailFast { trial: TrialId },
    /// Every comparison is decided: the remaining trials are not needed and do not count as missing.
    Decided { comparisons: usize },
    /// The gate's answer is a regression, whatever the results of the other trials: they are not needed.
    Certain { why: String },
}

/// Decision that ends a run with early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sought {
    /// Variant that the others are compared with.
    pub reference: String,
    /// Metric: `pass` or `score`.
    pub metric: String,
    /// Non-inferiority margin, in the unit of the metric: a share, or a part of the score.
    pub margin: f64,
    /// Maximum probability that at least one of the comparisons has a wrong answer.
    pub alpha: f64,
    /// Number of comparisons among which `alpha` is shared.
    pub comparisons: usize,
}

/// Result of the pairs of a variant and the reference, monitored sequentially.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonProgress {
    pub variant: String,
    pub reference: String,
    pub metric: String,
    pub margin: f64,
    pub answer: AnswerWord,
    /// Number of pairs that were counted.
    pub pairs: usize,
    /// Subject minus reference. `None` without pairs.
    pub difference: Option<f64>,
    /// Lower end of the confidence sequence.
    pub low: f64,
    pub high: f64,
    pub confidence: f64,
    /// Approximate number of further pairs needed for a decision. `None` if decided, or if the number is impracticable.
    pub more: Option<usize>,
    /// Number of trials of the variant that are not run because their outcome is not needed.
    pub not_needed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerWord {
    Better,
    Worse,
    /// Not worse by more than the margin.
    NotWorse,
    /// All pairs of the plan have been counted without a decision.
    Inconclusive,
    /// No outcome of the remaining pairs could decide the comparison.
    OutOfReach,
}

/// All trials that a run has to run or to find in the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredPlan {
    /// Digest of the cases: equal plans have equal digests.
    pub digest: String,
    /// Shard `K/N` of the plan as `(K, N)`. `None` if the run has the whole plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<(u32, u32)>,
    pub cases: Vec<PlannedCase>,
}

/// Trials of a plan that differ only in their seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCase {
    pub scenario: String,
    pub variant: String,
    pub backend: String,
    pub role: TrialRole,
    /// Values of the matrix, by path.
    pub cell: IndexMap<String, Value>,
    /// Number of the repetition, from 1.
    pub repeat: usize,
    /// Ranges of seeds: first and last, both included.
    pub seeds: Vec<(u64, u64)>,
}

/// Resource of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Dollars.
    Usd,
    Tokens,
    /// Seconds since the run began.
    Wall,
}
