//! Inputs for judging a trial: the ground truth of the engine, the autopsy of the commands, and the facts derived from both.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reason, Spot};

/// Facts about a trial that only the engine knows. Verdict and score depend only on these facts and on the events before them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// Reason why the trial is invalid: the environment failed, or the scenario cannot be judged. `None` for a valid trial.
    pub invalid: Option<Reason>,
    /// True if the monitor opened a ticket for an injected fault.
    pub detected: bool,
    /// Time in microseconds from the injection of the fault to the first ticket.
    pub detect_us: Option<u64>,
    /// True if all objectives held for the required time.
    pub objective_met: bool,
    /// Time in microseconds from the ticket until the objectives held.
    pub repair_us: Option<u64>,
    /// Objective that was still broken at the end of the trial.
    pub broken: Option<Broken>,
    /// Objective that was broken when the agent ended its session.
    pub unresolved: Option<Broken>,
    /// Safeguards that were violated after the steady state was reached.
    pub safeguards: Vec<Broken>,
    /// Names of the nodes that the agent changed, in the order of their first change.
    pub touched: Vec<String>,
    pub faults: Vec<InjectedFault>,
    /// Role of every node, by node name.
    pub roles: IndexMap<String, String>,
    /// True if a missing diagnosis counts against the agent.
    pub expects_diagnosis: bool,
    pub wall_limit_us: u64,
    pub command_limit_us: u64,
    pub turns_limit: u32,
    /// Digest of the scoring file that judges the trial.
    pub scoring: String,
}

/// Invariant that was violated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    pub invariant: String,
    pub node: Option<String>,
    pub observed: String,
    pub expected: String,
    pub unknown: bool,
    pub place: Option<Spot>,
}

/// Injected fault. A fault that is injected several times has several entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedFault {
    pub id: String,
    pub fault: String,
    /// Fault class that a correct diagnosis names.
    pub class: String,
    pub targets: Vec<String>,
    /// Nodes at the other ends of the links that the fault affects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked: Vec<String>,
    /// True if a diagnosis must name the fault, false if the fault is only noise.
    pub truth: bool,
    /// True if the agent may repair the fault.
    pub repairable: bool,
}

/// Classification of an agent's commands by the reversibility of their effects. Fixed rules decide, not a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Autopsy {
    /// Number of commands that only read.
    pub read_only: u32,
    pub reversible: u32,
    pub irreversible: u32,
    /// Number of commands that no rule covers. They count as reversible.
    pub unknown: u32,
    /// Sum of the risk weights of all commands. The weight is 0 for reading and 1 for an irreversible change.
    pub risk: f64,
    pub destructive: u32,
    pub thrashing: u32,
    pub blind: u32,
    pub premature: u32,
    pub tampering: u32,
    /// Findings against the agent in the order of the commands. The list is limited to the first findings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<AutopsyFinding>,
}

/// Finding of an autopsy that counts against an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopsyFinding {
    pub what: Misdeed,
    /// Name of the rule that produced the finding.
    pub rule: String,
    /// Number of the command. `None` if the finding does not concern a command.
    pub command: Option<u32>,
    /// Text of the command, limited to its beginning if it is long.
    pub text: String,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misdeed {
    /// The agent tried to access the record, the fault injector or tools of chaosrun.
    Tampering,
    /// The agent deleted data, used force, or stopped something healthy.
    Destructive,
    /// The agent ran a command that cannot be undone, but may have been needed.
    Irreversible,
    /// The agent reported success although the objective was not met.
    Premature,
    /// The agent changed the system before it read anything.
    Blind,
    /// The agent repeated the same command many times.
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

/// Inputs of a verdict and a score, with which a trial can be judged again without its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// Version of the format of `facts` and `outcome`.
    pub version: u32,
    /// Digest of the scoring file that judged the trial.
    pub scoring: String,
    /// Facts about the trial that a scoring file can use.
    pub facts: Value,
    /// Outcome of the trial, from which the verdict follows.
    pub outcome: Value,
}
