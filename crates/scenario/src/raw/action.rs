//! Raw types of the section `actions:` in a cluster file.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, RawAmount, RawDuration, Short, Text};
use crate::model::{ParamType, Risk, Verb};

/// An action on the cluster, with preconditions and an expected effect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "action")]
pub struct RawAction {
    /// Effect and use of the action, shown to agents.
    pub description: String,
    /// Risk of the action.
    pub risk: Risk,
    /// Parameters by name. Expressions and templates of the action use them as `params.NAME`.
    #[serde(default)]
    pub params: IndexMap<String, RawParam>,
    /// Preconditions: one or more expressions over the observations and `params`.
    #[serde(default)]
    pub require: OneOrMany<Short<RawRequire>>,
    /// Steps, performed in order.
    pub steps: Vec<RawStep>,
    /// Expected effect, checked with observations made after the steps.
    pub ensure: Option<Short<RawEnsure>>,
    /// Name of the action that undoes this action [default: `none`].
    pub undo: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "param")]
pub struct RawParam {
    /// Type of the parameter.
    #[serde(rename = "type")]
    pub kind: ParamType,
    /// For `node`: role of the allowed nodes.
    pub role: Option<String>,
    /// For `enum`: allowed words.
    #[serde(default)]
    pub of: Vec<Text>,
    /// For `integer`, `number` and `duration`: smallest allowed value.
    pub min: Option<RawAmount>,
    /// For `integer`, `number` and `duration`: largest allowed value.
    pub max: Option<RawAmount>,
    /// For `string`: regular expression that must match the whole text.
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
    /// Message for the agent if the precondition does not hold: a template.
    pub message: Option<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ensure")]
pub struct RawEnsure {
    pub expr: Text,
    /// Time limit until the condition is true [default: 10s].
    pub within: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "step")]
pub enum RawStep {
    /// Sends an HTTP request.
    Http(RawHttpStep),
    /// Starts, stops, kills, restarts, pauses or unpauses a node, as a Docker engine does.
    Node(RawNodeStep),
    /// Runs a command in a node.
    Exec(RawExecStep),
    /// Waits until a condition is true.
    Wait(RawWaitStep),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http_step")]
pub struct RawHttpStep {
    /// `any ROLE`: the nodes of the role are tried until one accepts the request. Templates use this node as `self`.
    pub on: Option<String>,
    pub url: Text,
    /// HTTP method [default: `GET`].
    pub method: Option<String>,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
    /// Condition over `status`, `json` and `text` under which the request succeeded [default: a status from 200 to 299].
    pub expect: Option<Text>,
    /// Time limit of the request [default: 5s].
    pub timeout: Option<RawDuration>,
    /// Explanations of unexpected answers. Key: regular expression for the answer; value: template of the explanation.
    #[serde(default)]
    pub refused: IndexMap<String, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "node_step")]
pub struct RawNodeStep {
    /// Name of the node: a template.
    pub node: Text,
    /// Operation on the node.
    pub verb: Verb,
    /// For `stop` and `restart`: time before the node is killed [default: `stop_grace` of the node].
    pub grace: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "exec_step")]
pub struct RawExecStep {
    /// Name of the node: a template.
    pub node: Text,
    /// Program and arguments: templates.
    pub command: Vec<Text>,
    /// Condition over `status`, `json` and `text` under which the command succeeded [default: exit code 0].
    pub expect: Option<Text>,
    /// Explanations of unexpected results. Key: regular expression for the output; value: template of the explanation.
    #[serde(default)]
    pub refused: IndexMap<String, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "wait_step")]
pub struct RawWaitStep {
    /// Condition over observations that were requested after the previous step.
    pub until: Text,
    /// Time limit until the condition is true [default: 10s].
    pub within: Option<RawDuration>,
}
