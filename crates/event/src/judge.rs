//! Answers of a judge, a model that grades diagnoses. They are advice and never part of a verdict.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Grade, Usage};
use chaosrun_base::ids::TrialId;

/// Judgement of a trial by a judge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    pub trial: TrialId,
    /// Digest of the judge.
    pub judge: String,
    /// Digest of the judge's prompt.
    #[serde(skip)]
    pub prompt: String,
    pub at: Timestamp,
    #[serde(flatten)]
    pub said: JudgeReply,
}

/// Answer of a judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeReply {
    /// Name of the judge.
    pub name: String,
    /// Name of the model, as its server reports it.
    pub model: String,
    #[serde(flatten)]
    pub answer: JudgeAnswer,
    /// Tokens of the exchanges that led to the answer.
    pub usage: Usage,
    /// Cost in dollars; 0 if the price is unknown.
    pub usd: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeAnswer {
    pub root_cause: Cause,
    /// True if the cited evidence was shown to the agent and supports the diagnosis.
    pub evidence_supported: bool,
    pub reasons: String,
}

/// Closeness of a diagnosis to the actual fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Correct,
    Partly,
    Wrong,
}

impl Cause {
    pub const ALL: [Self; 3] = [Self::Correct, Self::Partly, Self::Wrong];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Partly => "partly",
            Self::Wrong => "wrong",
        }
    }

    /// Translates a grade by rules into these words. Both node and class right give `Correct`, both wrong give `Wrong`, all else gives
    /// `Partly`.
    #[must_use]
    pub fn of_grade(grade: &Grade) -> Self {
        match (grade.component, grade.fault_class) {
            (component, class) if component >= 1.0 && class >= 1.0 => Self::Correct,
            (component, class) if component <= 0.0 && class <= 0.0 => Self::Wrong,
            _ => Self::Partly,
        }
    }
}
