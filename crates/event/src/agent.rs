//! Records of what agents do and cost: tools, commands, tokens, diagnoses and their grades.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Shortened output of a command: head and tail if it is long. The whole text is stored in the run directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Output {
    pub text: String,
    /// Total number of bytes printed.
    pub bytes: u64,
    pub truncated: bool,
    /// Path of the whole text, relative to the run directory, when truncated.
    pub file: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    pub root_cause: String,
    /// Node or part that is at fault.
    pub component: String,
    /// Word of a closed vocabulary: `process_crash`, `process_hang`, ...
    pub fault_class: String,
    /// 0 to 1.
    pub confidence: f64,
    pub evidence: Vec<String>,
    /// Other possible causes, and the reasons against them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// Actions that were taken or are proposed.
    pub actions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Alternative {
    pub cause: String,
    pub rejected_because: String,
}

/// Comparison of the diagnoses with the injected faults. Means are over the faults, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// Number of submitted diagnoses.
    pub submitted: usize,
    /// Grade of each fault. If there was no fault to find, a single grade without an `id`.
    pub faults: Vec<FaultGrade>,
    pub component: f64,
    pub fault_class: f64,
    /// Number of cited pieces of evidence, and number of those that the agent had been shown.
    pub quotes: usize,
    pub quotes_found: usize,
    /// First few citations that the agent had not been shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_found: Vec<String>,
}

/// Diagnosis that fits a fault best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultGrade {
    /// Key of the fault below `chaos`. `None` if there was no fault to find.
    pub id: Option<String>,
    /// Nodes that the fault affected.
    pub nodes: Vec<String>,
    pub class: String,
    /// Statement of the diagnosis that fits best. `None` if no diagnosis was submitted.
    pub said: Option<AgentMessage>,
    pub component: Fit,
    pub fault_class: Fit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentMessage {
    pub component: String,
    pub fault_class: String,
}

/// Closeness of a statement to the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    Exact,
    /// Names a neighbour of the node, or a class that looks the same from outside.
    Near,
    Wrong,
    /// No statement was made.
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

    /// Returns the points that this fit adds to a grade, from 0 to 1.
    #[must_use]
    pub const fn value(self) -> f64 {
        match self {
            Self::Exact => 1.0,
            Self::Near => 0.5,
            Self::Wrong | Self::None => 0.0,
        }
    }
}

/// Result of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionOutcome {
    /// Every step was carried out, and the intended effect was observed.
    Done,
    /// The action does not exist, or its parameters are wrong. No step was taken.
    Invalid,
    /// A precondition does not hold or is unknown. No step was taken.
    Unmet,
    /// The system refused a step.
    Refused,
    /// A step could not be carried out: no answer arrived, or the awaited condition was not met.
    Failed,
    /// All steps were carried out, but the intended effect was not observed.
    NotEnsured,
    /// A limit or an interrupt ended the action. The last request may still take effect.
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

/// Tool call requested by a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub tool: String,
    /// Arguments; a string if they were not a JSON object.
    pub arguments: Value,
}

/// Tokens of an exchange with a model. No token is counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent that were neither read from a cache nor written to one.
    pub input: u64,
    /// Tokens generated, including thinking.
    pub output: u64,
    pub cache_read: u64,
    /// Tokens cached for five minutes.
    pub cache_write: u64,
    /// Tokens cached for an hour.
    pub cache_write_long: u64,
    /// Part of `output` that was thinking.
    pub thinking: u64,
}

impl Usage {
    /// Returns the number of tokens that count against a token limit.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.prompt() + self.output
    }

    /// Returns the length of the prompt in tokens.
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
    /// A limit (wall, turns, tokens, dollars) ended the agent.
    Limit,
    /// The provider failed: the trial is invalid.
    Error,
    /// The run was interrupted: recorded as escalated.
    Interrupted,
}
