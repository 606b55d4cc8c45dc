//! Answers of a judge, a model that grades diagnoses. The answers are advice and never part of a verdict.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Grade, Usage};
use chaosrun_base::ids::TrialId;

/// Answer of a judge about one trial, as stored in the record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    pub trial: TrialId,
    /// Digest of the judge's model, parameters and prompt template.
    pub judge: String,
    /// Digest of the prompt that the judge received.
    #[serde(skip)]
    pub prompt: String,
    pub at: Timestamp,
    #[serde(flatten)]
    pub said: JudgeReply,
}

/// Answer of a judge, with the cost of getting it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeReply {
    /// Name of the judge.
    pub name: String,
    /// Name of the judge's model, as reported by its server.
    pub model: String,
    #[serde(flatten)]
    pub answer: JudgeAnswer,
    /// Token counts of all exchanges that led to the answer.
    pub usage: Usage,
    /// Cost in US dollars. 0 if the price is unknown.
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

/// Grade of a diagnosed root cause against the actual fault.
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

    /// Converts a grade by rules to this type. `Correct` requires the right node and class, `Wrong` that both are wrong. All other grades
    /// give `Partly`.
    #[must_use]
    pub fn of_grade(grade: &Grade) -> Self {
        match (grade.component, grade.fault_class) {
            (component, class) if component >= 1.0 && class >= 1.0 => Self::Correct,
            (component, class) if component <= 0.0 && class <= 0.0 => Self::Wrong,
            _ => Self::Partly,
        }
    }
}
