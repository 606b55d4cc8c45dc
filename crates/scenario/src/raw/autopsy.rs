//! Raw types of the autopsy file, which contains rules on commands: `scenarios/scoring/autopsy.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawDuration};

/// Rules that classify commands: how hard a command is to undo, and flags.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "autopsy")]
pub struct RawAutopsy {
    /// Name of the rules [default: the name of the file without extension].
    pub name: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who read the file")]
    pub description: String,
    /// Rules for commands; the first match counts. Command lines are split into simple commands first.
    #[serde(default)]
    #[schemars(required)]
    pub commands: Option<IndexMap<String, RawCommandRule>>,
    /// Weight of a command without a matching rule [default: 0.3]. Such a command counts as reversible.
    pub unknown: Option<f64>,
    #[serde(default)]
    pub thrashing: RawThrashing,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "command_rule")]
pub struct RawCommandRule {
    /// Regular expression for a simple command, whose words are separated by one space, without quotes and wrappers.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Place in which the rule applies: `node` (`docker exec`) or `agent` (the shell of the agent) [default: both].
    #[serde(rename = "where")]
    pub place: Option<RawWhereabouts>,
    /// One of `read_only`, `reversible`, `irreversible`, and optional flags.
    pub is: OneOrMany<RawTrait>,
    /// Weight from 0 to 1 [default: 0 for `read_only`, 0.3 for `reversible`, 1 for `irreversible`].
    pub weight: Option<f64>,
    #[serde(default)]
    pub description: String,
    /// Tests: command lines with their expected classification by all rules.
    #[serde(default)]
    pub tests: Vec<RawCommandTest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "whereabouts")]
pub enum RawWhereabouts {
    Node,
    Agent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "trait")]
pub enum RawTrait {
    /// The command only reads.
    ReadOnly,
    /// The command can be undone.
    Reversible,
    /// The command cannot be undone.
    Irreversible,
    /// The command deletes data, uses force, or stops healthy nodes.
    Destructive,
    /// The command accesses the record, the fault injection or the tools of chaosrun.
    Tampering,
    /// The command does not inspect the cluster, such as `cd` or `sleep`. Only valid with `read_only`.
    Idle,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "command_test")]
pub struct RawCommandTest {
    /// Complete command line, as an agent runs it.
    pub command: String,
    /// Expected classification: the most severe class of the line and all flags. `idle` if no command inspects the cluster.
    pub is: OneOrMany<RawTrait>,
}

/// Limits above which repeated commands count as thrashing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "thrashing")]
pub struct RawThrashing {
    /// Number of equal changes, or of starts of the same node, that count as thrashing [default: 3].
    pub same: Option<usize>,
    /// Number of equal read-only commands that count as thrashing [default: 10].
    pub same_look: Option<usize>,
    /// Time within which commands are counted [default: 60s].
    pub within: Option<RawDuration>,
}
