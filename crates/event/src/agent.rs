//! Records of the actions and the cost of agents: tools, commands, tokens, diagnoses and their grades.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Output of a command. A long output is shortened to its start and end, and the whole text is stored in the run directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Output {
    pub text: String,
    /// Total number of bytes that the command printed.
    pub bytes: u64,
    pub truncated: bool,
    /// Path of the file with the whole output, relative to the run directory. `None` if the output is not truncated.
    pub file: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    pub root_cause: String,
    /// Name of the node or component that is at fault.
    pub component: String,
    /// Fault class, a word of a closed vocabulary: `process_crash`, `process_hang`, ...
    pub fault_class: String,
    /// Confidence of the agent in its diagnosis, from 0 to 1.
    pub confidence: f64,
    pub evidence: Vec<String>,
    /// Other possible causes, each with the reason against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// Actions that the agent took or proposes.
    pub actions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Alternative {
    pub cause: String,
    pub rejected_because: String,
}

/// Grade of an agent's diagnoses, by comparison with the injected faults. Mean values are over the faults, from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// Number of diagnoses that the agent submitted.
    pub submitted: usize,
    /// Grade per fault. If there was no fault to find, the list contains a single grade without an `id`.
    pub faults: Vec<FaultGrade>,
    pub component: f64,
    pub fault_class: f64,
    /// Number of cited pieces of evidence.
    pub quotes: usize,
    pub quotes_found: usize,
    /// First few citations that do not occur in any text shown to the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_found: Vec<String>,
}

/// Grade for one fault, from the diagnosis that matches the fault best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultGrade {
    /// Key of the fault in the section `chaos` of the scenario. `None` if there was no fault to find.
    pub id: Option<String>,
    /// Names of the nodes that the fault affected.
    pub nodes: Vec<String>,
    pub class: String,
    /// Statement of the diagnosis that matches the fault best. `None` if no diagnosis was submitted.
    pub said: Option<AgentMessage>,
    pub component: Fit,
    pub fault_class: Fit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentMessage {
    pub component: String,
    pub fault_class: String,
}

/// Degree to which a statement of a diagnosis matches the actual fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    Exact,
    /// The statement names a neighbour of the faulty node, or a fault class with the same symptoms.
    Near,
    Wrong,
    /// The agent made no statement.
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

    /// Returns the points for this degree of match, from 0 to 1.
    #[must_use]
    pub const fn value(self) -> f64 {
        match self {
            Self::Exact => 1.0,
            Self::Near => 0.5,
            Self::Wrong | Self::None => 0.0,
        }
    }
}

/// Result of an action from the cluster file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionOutcome {
    /// Every step was carried out, and the intended effect was observed.
    Done,
    /// The action does not exist, or its parameters are wrong. No step was taken.
    Invalid,
    /// A precondition does not hold or is unknown. No step was taken.
    Unmet,
    /// The system rejected the request of a step.
    Refused,
    /// A step could not be carried out: no response arrived, or the awaited condition did not become true.
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

/// Tool call that a model requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub tool: String,
    /// Arguments of the call as a JSON object, or as a string if the model's text is not a JSON object.
    pub arguments: Value,
}

/// Token counts of an exchange with a model. No token is counted in two of the fields, except that `thinking` is a part of `output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Number of tokens sent that were neither read from a cache nor written to a cache.
    pub input: u64,
    /// Number of tokens generated, including thinking.
    pub output: u64,
    pub cache_read: u64,
    /// Number of tokens written to a cache that lasts five minutes.
    pub cache_write: u64,
    /// Number of tokens written to a cache that lasts one hour.
    pub cache_write_long: u64,
    /// Number of the tokens in `output` that were thinking.
    pub thinking: u64,
}

impl Usage {
    /// Returns the total number of tokens that count against a token limit.
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
    /// A limit (wall-clock time, turns, tokens or dollars) ended the session.
    Limit,
    /// The provider failed. The trial is therefore invalid.
    Error,
    /// A person interrupted the run.
    Interrupted,
}
