//! `actions:` of a cluster file.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawAmount, RawDuration, Short, Text};
use crate::model::{ParamType, Risk, Verb};

/// An action on the system with preconditions and expected effect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "action")]
pub struct RawAction {
    /// Effect and use of the action, shown to agents.
    pub description: String,
    /// Risk of the action.
    pub risk: Risk,
    /// Parameters, available below as `params.NAME`.
    #[serde(default)]
    pub params: IndexMap<String, RawParam>,
    /// Preconditions: one or more expressions over the observations and `params`.
    #[serde(default)]
    pub require: OneOrMany<Short<RawRequire>>,
    /// Steps, performed in order.
    pub steps: Vec<RawStep>,
    /// Expected effect, checked with observations made after the steps.
    pub ensure: Option<Short<RawEnsure>>,
    /// Action that undoes this action [default: `none`].
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
    /// For `enum`: the allowed words.
    #[serde(default)]
    pub of: Vec<Text>,
    /// For `integer`, `number` and `duration`.
    pub min: Option<RawAmount>,
    pub max: Option<RawAmount>,
    /// For `string`: a regular expression that the whole text must match.
    pub pattern: Option<String>,
    /// Default value. Without it, the parameter is required.
    pub default: Option<serde_json::Value>,
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "require")]
pub struct RawRequire {
    pub expr: Text,
    /// Message if the precondition does not hold: a template.
    pub message: Option<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ensure")]
pub struct RawEnsure {
    pub expr: Text,
    /// [default: 10s]
    pub within: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "step")]
pub enum RawStep {
    /// A request to the system.
    Http(RawHttpStep),
    /// Operation of the Docker engine on a node.
    Node(RawNodeStep),
    /// A command in a node.
    Exec(RawExecStep),
    /// Waits until a condition is true.
    Wait(RawWaitStep),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http_step")]
pub struct RawHttpStep {
    /// `any ROLE`: the first of these that takes the request; it is `self` then.
    pub on: Option<String>,
    pub url: Text,
    /// [default: GET]
    pub method: Option<String>,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
    /// Over `status`, `json`, `text` [default: a status of 200 to 299].
    pub expect: Option<Text>,
    /// [default: 5s]
    pub timeout: Option<RawDuration>,
    /// Explanations of unexpected answers: pattern in the text of the answer, and template of the explanation.
    #[serde(default)]
    pub refused: IndexMap<String, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "node_step")]
pub struct RawNodeStep {
    /// Name of the node: a template.
    pub node: Text,
    pub verb: Verb,
    /// For `stop` and `restart`, before it is killed [default: the node's own].
    pub grace: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "exec_step")]
pub struct RawExecStep {
    /// Name of the node: a template.
    pub node: Text,
    /// Program and arguments, one word per item: templates.
    pub command: Vec<Text>,
    /// Over `status`, `json`, `text` [default: exit code 0].
    pub expect: Option<Text>,
    /// Explanations of unexpected results: pattern in the output, and template of the explanation.
    #[serde(default)]
    pub refused: IndexMap<String, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "wait_step")]
pub struct RawWaitStep {
    /// Over observations that were made since the step before.
    pub until: Text,
    /// [default: 10s]
    pub within: Option<RawDuration>,
}
