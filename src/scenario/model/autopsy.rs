//! What commands do, by rules.

use std::sync::Arc;
use std::time::Duration;

use regex::RegexSet;
use serde::Serialize;
use serde_json::Value;

use super::duration;
use crate::diagnostic::SourceFile;

/// The rules of an autopsy. Of the rules on commands the first that matches counts.
#[derive(Debug, Clone, Serialize)]
pub struct AutopsyRules {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    /// What the file says, for the record.
    #[serde(skip)]
    pub written: Value,
    pub commands: Vec<CommandRule>,
    /// What a command weighs that no rule knows.
    pub unknown: f64,
    pub thrashing: Thrashing,
    /// The patterns of `commands`, in their order.
    #[serde(skip)]
    pub patterns: RegexSet,
}

#[derive(Debug, Clone, Serialize)]
pub struct CommandRule {
    pub name: String,
    /// A regular expression on one simple command.
    pub pattern: String,
    /// Where it must run; none: anywhere.
    pub place: Option<Whereabouts>,
    pub reversibility: Reversibility,
    pub weight: f64,
    pub destructive: bool,
    pub tampering: bool,
    /// It sees nothing of the cluster: it is no look.
    pub idle: bool,
    #[serde(skip)]
    pub description: String,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whereabouts {
    /// In a node, through `docker exec`.
    Node,
    /// Where the agent is.
    Agent,
}

/// How hard it is to undo, the easiest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversibility {
    ReadOnly,
    Reversible,
    Irreversible,
}

impl Reversibility {
    /// What it weighs unless a rule says otherwise.
    #[must_use]
    pub const fn weight(self) -> f64 {
        match self {
            Self::ReadOnly => 0.0,
            Self::Reversible => 0.3,
            Self::Irreversible => 1.0,
        }
    }
}

/// When the same again and again is too much.
#[derive(Debug, Clone, Serialize)]
pub struct Thrashing {
    /// So many times the same command that changes something, or starts of the same node.
    pub same: usize,
    /// So many times the same look.
    pub same_look: usize,
    #[serde(serialize_with = "duration")]
    pub within: Duration,
}
