//! Relation of a run to other runs: trials that are already recorded, and reasons why a run starts no more trials.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reason, TrialRole, Verdict};
use chaosrun_base::ids::{RunId, TrialId};

/// Trial of the plan that an earlier run has finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReusedTrial {
    pub trial: TrialId,
    /// Id of the run that recorded the trial.
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
    /// Code and message of the reason for the trial's verdict.
    pub reason: Option<Box<Reason>>,
    pub repair_us: Option<u64>,
    pub wall_us: u64,
    pub tokens: u64,
    pub usd: f64,
}

/// Reason why a run starts no further trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Stopped {
    /// The remaining budget may be smaller than the use of the next trial.
    Budget {
        of: Resource,
        limit: f64,
        /// Amount used by all ended trials of the plan, including trials of earlier runs.
        spent: f64,
        /// Maximum amount that the next trial may use.
        next: f64,
    },
    /// A trial did not pass, and the user requested a stop at the first failure.
    FailFast { trial: TrialId },
    /// Every comparison is decided. The remaining trials are not needed and do not count as missing.
    Decided { comparisons: usize },
    /// The gate reports a regression whatever the results of the remaining trials. These trials are therefore not needed.
    Certain { why: String },
}

/// Decision that a run with early stopping aims at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sought {
    /// Name of the variant with which all other variants are compared.
    pub reference: String,
    /// Name of the compared metric: `pass` or `score`.
    pub metric: String,
    /// Non-inferiority margin in the unit of the metric: a share of trials, or a part of the score.
    pub margin: f64,
    /// Maximum probability that one or more of the comparisons give a wrong answer.
    pub alpha: f64,
    /// Number of comparisons among which `alpha` is shared.
    pub comparisons: usize,
}

/// State of the sequential comparison between a variant and the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonProgress {
    pub variant: String,
    pub reference: String,
    pub metric: String,
    pub margin: f64,
    pub answer: AnswerWord,
    /// Number of pairs counted so far.
    pub pairs: usize,
    /// Mean difference, subject minus reference. `None` without pairs.
    pub difference: Option<f64>,
    /// Lower end of the confidence sequence of the difference.
    pub low: f64,
    pub high: f64,
    pub confidence: f64,
    /// Estimated number of further pairs needed for a decision. `None` if the comparison is decided or the number is too large to be
    /// practical.
    pub more: Option<usize>,
    /// Number of trials of the variant that are not run, because their outcome is not needed.
    pub not_needed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerWord {
    Better,
    Worse,
    /// The subject is not worse than the reference by more than the margin.
    NotWorse,
    /// All pairs of the plan have been counted without a decision.
    Inconclusive,
    /// No outcome of the remaining pairs could decide the comparison.
    OutOfReach,
}

/// All trials that a run either runs itself or takes from the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredPlan {
    /// Digest of the cases. Equal plans have equal digests.
    pub digest: String,
    /// Part `K/N` of the plan that the run executes, as `(K, N)`. `None` if the run executes the whole plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<(u32, u32)>,
    pub cases: Vec<PlannedCase>,
}

/// Group of trials in a plan that differ only in their seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCase {
    pub scenario: String,
    pub variant: String,
    pub backend: String,
    pub role: TrialRole,
    /// Values of the scenario's matrix, by path.
    pub cell: IndexMap<String, Value>,
    /// Number of the repetition, from 1.
    pub repeat: usize,
    /// Ranges of seeds as pairs of the first and the last seed, both included.
    pub seeds: Vec<(u64, u64)>,
}

/// Resource that a budget limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Cost in US dollars.
    Usd,
    Tokens,
    /// Time since the start of the run, in seconds.
    Wall,
}
