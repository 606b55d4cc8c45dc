//! Rules that classify commands.

use std::sync::Arc;
use std::time::Duration;

use regex::RegexSet;
use serde::Serialize;
use serde_json::Value;

use super::duration;
use chaosrun_diagnostic::SourceFile;

/// Rules of an autopsy. For each command, the first matching rule counts.
#[derive(Debug, Clone, Serialize)]
pub struct AutopsyRules {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    /// Content of the file, for the record.
    #[serde(skip)]
    pub written: Value,
    pub commands: Vec<CommandRule>,
    /// Weight of a command without a matching rule.
    pub unknown: f64,
    pub thrashing: Thrashing,
    /// Patterns of `commands`, in the same order.
    #[serde(skip)]
    pub patterns: RegexSet,
}

#[derive(Debug, Clone, Serialize)]
pub struct CommandRule {
    pub name: String,
    /// Regular expression on one simple command.
    pub pattern: String,
    /// Place where the command must run. `None` stands for any place.
    pub place: Option<Whereabouts>,
    pub reversibility: Reversibility,
    pub weight: f64,
    pub destructive: bool,
    pub tampering: bool,
    /// True if the command does not inspect the cluster.
    pub idle: bool,
    #[serde(skip)]
    pub description: String,
}

/// Place where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whereabouts {
    /// In a node, through `docker exec`.
    Node,
    /// On the machine of the agent.
    Agent,
}

/// Classes of commands by the difficulty of undoing them, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversibility {
    ReadOnly,
    Reversible,
    Irreversible,
}

impl Reversibility {
    /// Returns the default weight.
    #[must_use]
    pub const fn weight(self) -> f64 {
        match self {
            Self::ReadOnly => 0.0,
            Self::Reversible => 0.3,
            Self::Irreversible => 1.0,
        }
    }
}

/// Limits for repeated commands.
#[derive(Debug, Clone, Serialize)]
pub struct Thrashing {
    /// Number of equal changing commands, or of starts of the same node, that count as thrashing.
    pub same: usize,
    /// Number of equal read-only commands that count as thrashing.
    pub same_look: usize,
    #[serde(serialize_with = "duration")]
    pub within: Duration,
}
