//! `actions:` of a cluster file.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawAmount, RawDuration, Short, Text};
use crate::scenario::model::{ParamType, Risk, Verb};

/// Something that may be done to the system, with everything that must be so before and after.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "action")]
pub struct RawAction {
    /// What it does and when it helps: an agent reads this.
    pub description: String,
    /// How much harm it may do.
    pub risk: Risk,
    /// What must be said with it: `params.NAME` in everything below.
    #[serde(default)]
    pub params: IndexMap<String, RawParam>,
    /// What must be true before anything is done: an expression over the observations and `params`, or several.
    #[serde(default)]
    pub require: OneOrMany<Short<RawRequire>>,
    /// What is done, one after the other.
    pub steps: Vec<RawStep>,
    /// What must become true afterwards, in observations that were made afterwards.
    pub ensure: Option<Short<RawEnsure>>,
    /// The action that takes it back; `none` unless given.
    pub undo: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "param")]
pub struct RawParam {
    #[serde(rename = "type")]
    pub kind: ParamType,
    /// For `node`: only nodes of this role.
    pub role: Option<String>,
    /// For `enum`: the words there are.
    #[serde(default)]
    pub of: Vec<Text>,
    /// For `integer`, `number` and `duration`.
    pub min: Option<RawAmount>,
    pub max: Option<RawAmount>,
    /// For `string`: a regular expression that the whole text must match.
    pub pattern: Option<String>,
    /// What holds where none is given. Without it one must be given.
    pub default: Option<serde_json::Value>,
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "require")]
pub struct RawRequire {
    pub expr: Text,
    /// What to say when it does not hold: a template.
    pub message: Option<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ensure")]
pub struct RawEnsure {
    pub expr: Text,
    /// 10s unless given.
    pub within: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "step")]
pub enum RawStep {
    /// A request to the system.
    Http(RawHttpStep),
    /// What an engine can do to a node.
    Node(RawNodeStep),
    /// A command in a node.
    Exec(RawExecStep),
    /// Nothing is done until something is so.
    Wait(RawWaitStep),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http_step")]
pub struct RawHttpStep {
    /// `any ROLE`: the first of these that takes the request; it is `self` then.
    pub on: Option<String>,
    pub url: Text,
    /// GET unless given.
    pub method: Option<String>,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
    /// Over `status`, `json`, `text`: a status of 200 to 299 unless given.
    pub expect: Option<Text>,
    /// 5s unless given.
    pub timeout: Option<RawDuration>,
    /// What an answer means that is not as expected, and what would be possible instead: a pattern on its text, and a template.
    #[serde(default)]
    pub refused: IndexMap<String, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "node_step")]
pub struct RawNodeStep {
    /// Its name: a template.
    pub node: Text,
    pub verb: Verb,
    /// For `stop` and `restart`, before it is killed: the node's own unless given.
    pub grace: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "exec_step")]
pub struct RawExecStep {
    /// Its name: a template.
    pub node: Text,
    /// The program and its arguments, a word each: templates.
    pub command: Vec<Text>,
    /// Over `status`, `json`, `text`: exit code 0 unless given.
    pub expect: Option<Text>,
    /// As that of `http`.
    #[serde(default)]
    pub refused: IndexMap<String, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "wait_step")]
pub struct RawWaitStep {
    /// Over observations that were made since the step before.
    pub until: Text,
    /// 10s unless given.
    pub within: Option<RawDuration>,
}
