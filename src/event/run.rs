//! A run among others: trials that it need not run again, and why it starts no more of them.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reason, TrialRole, Verdict};
use crate::ids::{RunId, TrialId};

/// A trial of the plan that an earlier run has finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptTrial {
    pub trial: TrialId,
    /// The run that it belongs to.
    pub run: RunId,
    /// Its place in the plan of this run.
    pub number: usize,
    pub scenario: String,
    pub variant: String,
    pub seed: u64,
    pub backend: String,
    pub role: TrialRole,
    pub attempt: u32,
    pub verdict: Verdict,
    pub score: Option<f64>,
    /// Its code and its message.
    pub reason: Option<Box<Reason>>,
    pub repair_us: Option<u64>,
    pub wall_us: u64,
    pub tokens: u64,
    pub usd: f64,
}

/// Why no further trial is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Stopped {
    /// The next trial could use more than is left.
    Budget {
        of: Resource,
        limit: f64,
        /// By all trials of the plan that have ended, those that were recorded before included.
        spent: f64,
        /// What the next trial may use at most.
        next: f64,
    },
    /// A trial did not pass, and the first was to be the last.
    FailFast { trial: TrialId },
    /// Every comparison is decided: what has not begun is not needed, and not missing.
    Decided { comparisons: usize },
    /// The gate's answer is a regression, whatever the rest comes to: it is not needed.
    Certain { why: String },
}

/// What a run that stops when it is decided is to decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sought {
    /// The variant that the others are compared with.
    pub reference: String,
    /// `pass` or `score`.
    pub metric: String,
    /// What is taken for no loss: a share, or a part of the score.
    pub margin: f64,
    /// How often any of all answers may be wrong.
    pub alpha: f64,
    /// Between so many comparisons it is shared.
    pub comparisons: usize,
}

/// What the pairs of a variant and the reference have come to, looked at again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    pub variant: String,
    pub reference: String,
    pub metric: String,
    pub margin: f64,
    pub answer: AnswerWord,
    /// Pairs that counted for it.
    pub pairs: usize,
    /// Subject less reference. None of no pairs.
    pub difference: Option<f64>,
    /// What nothing speaks against, whenever it was looked at, with its confidence.
    pub low: f64,
    pub high: f64,
    pub confidence: f64,
    /// About so many more pairs would decide. None: it is decided, or more than anybody runs.
    pub more: Option<usize>,
    /// Trials of the variant that are not run, since no outcome of them is needed.
    pub not_needed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerWord {
    Better,
    Worse,
    /// By the margin.
    NotWorse,
    /// All pairs that there are have been looked at.
    Inconclusive,
    /// No outcome of the pairs that are left could decide it.
    OutOfReach,
}

/// All that a run is to run, or to find recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredPlan {
    /// Of the cases: equal plans have equal ones.
    pub digest: String,
    /// K of N, of a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<(u32, u32)>,
    pub cases: Vec<PlannedCase>,
}

/// Trials of a plan that differ in their seeds alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCase {
    pub scenario: String,
    pub variant: String,
    pub backend: String,
    pub role: TrialRole,
    /// Values of the matrix by path.
    pub cell: IndexMap<String, Value>,
    /// From 1.
    pub repeat: usize,
    /// First and last, both included.
    pub seeds: Vec<(u64, u64)>,
}

/// What there is a budget of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Dollars.
    Usd,
    Tokens,
    /// Seconds since the run began.
    Wall,
}
