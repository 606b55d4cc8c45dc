//! A run among others: trials that it need not run again, and why it starts no more of them.

use serde::{Deserialize, Serialize};

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
