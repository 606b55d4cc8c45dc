//! A model that reads diagnoses of agents. What it says is advice: it is kept apart from verdicts and scores, and changes none.
//!
//! [`gather`] makes a question of each trial from its events, [`session`] asks what was not asked before, [`agreement`] holds the answers
//! against the grades by rules.

pub mod agreement;
mod answer;
mod gather;
mod material;
pub mod session;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::model::Usage;
use crate::ids::TrialId;

pub use agreement::Agreement;
pub use answer::{Answer, Cause};
pub use gather::{Gathered, Question, Which, gather};
pub use session::{Judged, Session, Verdicts, judge};

/// Of the question and of how its answer is read: another one asks again.
pub const JUDGE_VERSION: u32 = 1;

/// What a judge said of a trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    pub trial: TrialId,
    /// The digest of the judge.
    pub judge: String,
    /// The digest of what it was told.
    #[serde(skip)]
    pub prompt: String,
    pub at: Timestamp,
    #[serde(flatten)]
    pub said: Said,
}

/// An answer, and whose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The judge's name.
    pub name: String,
    /// The model as its server names it.
    pub model: String,
    #[serde(flatten)]
    pub answer: Answer,
    /// Of the exchanges that led to it.
    pub usage: Usage,
    /// Dollars; 0 where nobody knows the price.
    pub usd: f64,
}
