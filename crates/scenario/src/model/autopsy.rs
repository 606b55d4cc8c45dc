//! Rules that classify the commands of an agent, for example as destructive.

use std::sync::Arc;
use std::time::Duration;

use regex::RegexSet;
use serde::Serialize;
use serde_json::Value;

use super::duration;
use chaosrun_diagnostic::SourceFile;

/// Rules that classify the commands of an agent after a trial. For each command, the first matching rule applies.
#[derive(Debug, Clone, Serialize)]
pub struct AutopsyRules {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    /// Content of the autopsy file as JSON, which is stored in the record.
    #[serde(skip)]
    pub written: Value,
    pub commands: Vec<CommandRule>,
    /// Weight of a command that matches no rule.
    pub unknown: f64,
    pub thrashing: Thrashing,
    /// Compiled patterns of the rules in `commands`, in the same order.
    #[serde(skip)]
    pub patterns: RegexSet,
}

#[derive(Debug, Clone, Serialize)]
pub struct CommandRule {
    pub name: String,
    /// Regular expression that is matched against one simple command of a command line.
    pub pattern: String,
    /// Place where the command must run for the rule to apply. `None` means any place.
    pub place: Option<Whereabouts>,
    pub reversibility: Reversibility,
    pub weight: f64,
    pub destructive: bool,
    pub tampering: bool,
    /// True if commands that match the rule do not inspect the cluster.
    pub idle: bool,
    #[serde(skip)]
    pub description: String,
}

/// Place where a command of an agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whereabouts {
    /// Command that runs inside a node, through `docker exec`.
    Node,
    /// Command that runs on the machine of the agent.
    Agent,
}

/// Class of a command by the difficulty of undoing its effect. The classes are in ascending order of difficulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversibility {
    ReadOnly,
    Reversible,
    Irreversible,
}

impl Reversibility {
    /// Returns the default weight of the commands in this class.
    #[must_use]
    pub const fn weight(self) -> f64 {
        match self {
            Self::ReadOnly => 0.0,
            Self::Reversible => 0.3,
            Self::Irreversible => 1.0,
        }
    }
}

/// Limits for repeated commands. Reaching a limit is reported as a finding against the agent.
#[derive(Debug, Clone, Serialize)]
pub struct Thrashing {
    /// Number of equal changing commands, or of starts of the same node, that is reported as a finding against the agent.
    pub same: usize,
    /// Number of equal read-only commands that is reported as a finding against the agent.
    pub same_look: usize,
    #[serde(serialize_with = "duration")]
    pub within: Duration,
}
