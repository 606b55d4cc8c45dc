//! What agents say and cost: tools, commands, tokens, diagnoses and what these are worth.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a command printed, as it is shown: head and tail when it was long. The whole text is kept in the run directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Output {
    pub text: String,
    /// Bytes printed in all.
    pub bytes: u64,
    pub truncated: bool,
    /// Path of the whole text, relative to the run directory, when truncated.
    pub file: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    pub root_cause: String,
    /// The node or part that is at fault.
    pub component: String,
    /// A word of a closed vocabulary: `process_crash`, `process_hang`, ...
    pub fault_class: String,
    /// 0 to 1.
    pub confidence: f64,
    pub evidence: Vec<String>,
    /// What else it could have been, and why it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// What was done, or should be.
    pub actions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Alternative {
    pub cause: String,
    pub rejected_because: String,
}

/// Diagnoses held against what was there. Means are over the faults, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// How many were handed in.
    pub submitted: usize,
    /// By fault; a single one without an `id` when nothing was wrong.
    pub faults: Vec<FaultGrade>,
    pub component: f64,
    pub fault_class: f64,
    /// Pieces of evidence that were cited, and how many of them the agent has been shown.
    pub quotes: usize,
    pub quotes_found: usize,
    /// The first few of the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_found: Vec<String>,
}

/// The diagnosis that fits a fault best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultGrade {
    /// Its key below `chaos`; none: nothing was wrong.
    pub id: Option<String>,
    /// The nodes that it hit.
    pub nodes: Vec<String>,
    pub class: String,
    /// What was said of them.
    pub said: Option<Said>,
    pub component: Fit,
    pub fault_class: Fit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub component: String,
    pub fault_class: String,
}

/// How near something said is to the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    Exact,
    /// A neighbour of the node; a class that looks the same from outside.
    Near,
    Wrong,
    /// Nothing was said.
    None,
}

impl Fit {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Near => "near",
            Self::Wrong => "wrong",
            Self::None => "none",
        }
    }

    /// What it is worth.
    #[must_use]
    pub const fn value(self) -> f64 {
        match self {
            Self::Exact => 1.0,
            Self::Near => 0.5,
            Self::Wrong | Self::None => 0.0,
        }
    }
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionOutcome {
    /// Every step was carried out, and what it should bring about is so.
    Done,
    /// There is no such action, or its parameters are wrong. Nothing was done.
    Invalid,
    /// What must be so before does not hold, or is not known. Nothing was done.
    Unmet,
    /// The system has refused a step.
    Refused,
    /// A step could not be carried out: nobody answered, or what it waited for did not come.
    Failed,
    /// All steps were carried out, and what they should bring about has not come.
    NotEnsured,
    /// A limit or an interrupt ended it. What was asked last may still happen.
    CutOff,
}

impl ActionOutcome {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Invalid => "invalid",
            Self::Unmet => "not begun",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::NotEnsured => "not ensured",
            Self::CutOff => "cut off",
        }
    }
}

/// A tool that a model wanted to use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub tool: String,
    /// A text when it was no JSON object.
    pub arguments: Value,
}

/// Tokens of an exchange with a model, none counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Sent, and neither read from a cache nor written to one.
    pub input: u64,
    /// Said, thinking included.
    pub output: u64,
    pub cache_read: u64,
    /// Kept for five minutes.
    pub cache_write: u64,
    /// Kept for an hour.
    pub cache_write_long: u64,
    /// The part of `output` that was thought.
    pub thinking: u64,
}

impl Usage {
    /// What counts against a limit of tokens.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.prompt() + self.output
    }

    /// How long the prompt was.
    #[must_use]
    pub const fn prompt(&self) -> u64 {
        self.input + self.cache_read + self.cache_write + self.cache_write_long
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
        self.cache_write += other.cache_write;
        self.cache_write_long += other.cache_write_long;
        self.thinking += other.thinking;
    }
}

impl std::ops::SubAssign for Usage {
    fn sub_assign(&mut self, other: Self) {
        self.input = self.input.saturating_sub(other.input);
        self.output = self.output.saturating_sub(other.output);
        self.cache_read = self.cache_read.saturating_sub(other.cache_read);
        self.cache_write = self.cache_write.saturating_sub(other.cache_write);
        self.cache_write_long = self.cache_write_long.saturating_sub(other.cache_write_long);
        self.thinking = self.thinking.saturating_sub(other.thinking);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentEnd {
    Resolve,
    Escalate,
    NoAction,
    /// A limit (wall, turns, tokens, dollars) ended it.
    Limit,
    /// The provider failed: the trial is invalid.
    Error,
    /// The run was interrupted: recorded as escalated.
    Interrupted,
}
