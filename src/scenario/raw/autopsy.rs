//! `scenarios/scoring/autopsy.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawDuration};

/// What an agent's commands come to: how hard each is to undo, and what is held against it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "autopsy")]
pub struct RawAutopsy {
    /// The file's name unless given.
    pub name: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who read the file")]
    pub description: String,
    /// Of these the first that matches counts. A line is taken apart into simple commands before.
    #[serde(default)]
    #[schemars(required)]
    pub commands: Option<IndexMap<String, RawCommandRule>>,
    /// What a command weighs that no rule knows [default: 0.3]. It counts as reversible.
    pub unknown: Option<f64>,
    #[serde(default)]
    pub thrashing: RawThrashing,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "command_rule")]
pub struct RawCommandRule {
    /// A regular expression on a simple command: its words with a blank in between, without quotes and without what only carries it.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Only in a node (`docker exec`), or only where the agent is.
    #[serde(rename = "where")]
    pub place: Option<RawWhereabouts>,
    /// One of `read_only`, `reversible`, `irreversible`, and what is held against it.
    pub is: OneOrMany<RawTrait>,
    /// 0 to 1 [default: 0, 0.3 or 1, by what it is].
    pub weight: Option<f64>,
    #[serde(default)]
    pub description: String,
    /// Lines and what all the rules together must find in each.
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
    /// It only looks.
    ReadOnly,
    /// It can be undone.
    Reversible,
    /// It cannot.
    Irreversible,
    /// It wipes data, uses force, or stops what is healthy.
    Destructive,
    /// It reaches for the record, the injector or chaosrun's own tools.
    Tampering,
    /// It sees nothing of the cluster, such as `cd` or `sleep`: it is no look. Beside `read_only` alone.
    Idle,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "command_test")]
pub struct RawCommandTest {
    /// A whole line, as an agent would give it.
    pub command: String,
    /// The hardest thing in it, and all that is held against it; `idle` when nothing in it sees anything of the cluster.
    pub is: OneOrMany<RawTrait>,
}

/// When the same again and again is too much.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "thrashing")]
pub struct RawThrashing {
    /// So many times the same command that changes something, or starts of the same node [default: 3].
    pub same: Option<usize>,
    /// So many times the same look [default: 10].
    pub same_look: Option<usize>,
    /// [default: 60s]
    pub within: Option<RawDuration>,
}
