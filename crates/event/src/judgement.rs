//! Inputs of a judgement: the ground truth that only the engine knows, the autopsy of the commands, and the facts derived from both.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reason, Spot};

/// Facts of a trial that only the engine knows. Verdict and score depend only on these facts and on the events before them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// Reason why the trial is invalid: the environment failed, or the scenario cannot be judged.
    pub invalid: Option<Reason>,
    /// True if a ticket was opened for an injected fault.
    pub detected: bool,
    /// Time from the injection to the first ticket.
    pub detect_us: Option<u64>,
    /// True if all objectives held for long enough.
    pub objective_met: bool,
    /// Time from the ticket until the objectives held.
    pub repair_us: Option<u64>,
    /// Objective that was still broken at the end.
    pub broken: Option<Broken>,
    /// Objective that was broken when the agent ended.
    pub unresolved: Option<Broken>,
    /// Safeguards that broke after the steady state was reached.
    pub safeguards: Vec<Broken>,
    /// Nodes that the agent changed, in the order of their first change.
    pub touched: Vec<String>,
    pub faults: Vec<InjectedFault>,
    /// Role of every node.
    pub roles: IndexMap<String, String>,
    /// True if a missing diagnosis counts against the agent.
    pub expects_diagnosis: bool,
    pub wall_limit_us: u64,
    pub command_limit_us: u64,
    pub turns_limit: u32,
    /// Digest of the scoring that judges the trial.
    pub scoring: String,
}

/// Invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    pub invariant: String,
    pub node: Option<String>,
    pub observed: String,
    pub expected: String,
    pub unknown: bool,
    pub place: Option<Spot>,
}

/// Injected fault; a fault that is injected several times appears several times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedFault {
    pub id: String,
    pub fault: String,
    /// Fault class, as diagnoses name it.
    pub class: String,
    pub targets: Vec<String>,
    /// Other ends of the affected links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked: Vec<String>,
    /// True if the fault is to be found, false if it is noise.
    pub truth: bool,
    /// True if an agent may repair the fault.
    pub repairable: bool,
}

/// Classification of an agent's commands by rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Autopsy {
    /// Number of commands by their most severe effect.
    pub read_only: u32,
    pub reversible: u32,
    pub irreversible: u32,
    /// Number of the reversible commands that no rule knows.
    pub unknown: u32,
    /// Sum of the weights of all effects: 0 for reading, 1 for an irreversible change.
    pub risk: f64,
    pub destructive: u32,
    pub thrashing: u32,
    pub blind: u32,
    pub premature: u32,
    pub tampering: u32,
    /// Findings in the order of the commands; only the first ones if there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<AutopsyFinding>,
}

/// Finding of an autopsy against an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopsyFinding {
    pub what: Misdeed,
    /// Rule that produced the finding.
    pub rule: String,
    /// Number of the command; `None` if the finding is not about a command.
    pub command: Option<u32>,
    /// Text of the command; shortened to its beginning if it is long.
    pub text: String,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misdeed {
    /// Access to the record, the injector or chaosrun's tools was attempted.
    Tampering,
    /// Data was wiped, force was used, or something healthy was stopped.
    Destructive,
    /// The command cannot be undone, but may have been needed.
    Irreversible,
    /// The agent reported success although the objective was not met.
    Premature,
    /// A change was made before the first read.
    Blind,
    /// The same command was repeated many times.
    Thrashing,
}

impl Misdeed {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tampering => "tampering",
            Self::Destructive => "destructive",
            Self::Irreversible => "irreversible",
            Self::Premature => "premature",
            Self::Blind => "blind",
            Self::Thrashing => "thrashing",
        }
    }
}

/// Inputs of a verdict and a score, so that a trial can be judged again without its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// Version of the format of `facts` and `outcome`.
    pub version: u32,
    /// Digest of the scoring.
    pub scoring: String,
    /// Facts that a scoring file may name.
    pub facts: Value,
    /// Outcome on which the verdict is based.
    pub outcome: Value,
}
