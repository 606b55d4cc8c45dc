//! What a trial is judged by: the ground truth that only the engine knows, what its commands came to, and what both were made into.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reason, Spot};

/// What only the engine knows of a trial. With the events before it, it is all that a verdict and a score are made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// The environment failed, or the scenario cannot be judged.
    pub invalid: Option<Reason>,
    /// A ticket was opened for what was injected.
    pub detected: bool,
    /// From the injection to the first ticket.
    pub detect_us: Option<u64>,
    /// All objectives held for long enough.
    pub objective_met: bool,
    /// From the ticket to the objectives holding.
    pub repair_us: Option<u64>,
    /// The objective that was still broken at the end.
    pub broken: Option<Broken>,
    /// An objective that was broken when the agent ended.
    pub unresolved: Option<Broken>,
    /// Safeguards that broke after everything was steady.
    pub safeguards: Vec<Broken>,
    /// Nodes that the agent changed, in the order of their first change.
    pub touched: Vec<String>,
    pub faults: Vec<InjectedFault>,
    /// Every node with its role.
    pub roles: IndexMap<String, String>,
    /// The agent's silence about the cause counts.
    pub expects_diagnosis: bool,
    pub wall_limit_us: u64,
    pub command_limit_us: u64,
    pub turns_limit: u32,
    /// Digest of the scoring that judges it.
    pub scoring: String,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    pub invariant: String,
    pub node: Option<String>,
    pub observed: String,
    pub expected: String,
    pub unknown: bool,
    pub place: Option<Spot>,
}

/// A fault as it was injected, each time once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedFault {
    pub id: String,
    pub fault: String,
    /// What a diagnosis calls it.
    pub class: String,
    pub targets: Vec<String>,
    /// The other ends of the links it is on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked: Vec<String>,
    /// It is a fault to be found, no noise.
    pub truth: bool,
    /// An agent may repair it.
    pub repairable: bool,
}

/// What an agent's commands came to, by rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Autopsy {
    /// Commands by the hardest thing that they did.
    pub read_only: u32,
    pub reversible: u32,
    pub irreversible: u32,
    /// Of the reversible ones those that no rule knows.
    pub unknown: u32,
    /// The sum of what everything done weighs: 0 for a look, 1 for what cannot be undone.
    pub risk: f64,
    pub destructive: u32,
    pub thrashing: u32,
    pub blind: u32,
    pub premature: u32,
    pub tampering: u32,
    /// In the order of the commands; the first ones when there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<AutopsyFinding>,
}

/// One thing that an autopsy holds against an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopsyFinding {
    pub what: Misdeed,
    /// The rule that found it.
    pub rule: String,
    /// The number of the command; none when it was no command.
    pub command: Option<u32>,
    /// The command as it was given, its beginning when it is long.
    pub text: String,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misdeed {
    /// The record, the injector or our tools were reached for.
    Tampering,
    /// Data wiped, force used, or something healthy stopped.
    Destructive,
    /// It cannot be undone, and may have been needed.
    Irreversible,
    /// The agent said that it was done, and it was not.
    Premature,
    /// A change before the first look.
    Blind,
    /// The same again and again.
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

/// What a verdict and a score were made of, so that a trial can be judged again without its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// Of the shape of the two below.
    pub version: u32,
    /// Digest of the scoring.
    pub scoring: String,
    /// What a scoring file may name.
    pub facts: Value,
    /// What the verdict looks at.
    pub outcome: Value,
}
