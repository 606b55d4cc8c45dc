//! `variants/*.yaml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawLimits, Short, Text};

/// An agent: who decides, and within which limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "variant")]
pub struct RawVariant {
    /// The file's name unless given.
    pub name: Option<String>,
    #[serde(default)]
    pub description: String,
    pub provider: RawProvider,
    /// For `provider: scripted`: the first rule whose `when` is true is run.
    #[serde(default)]
    pub rules: Vec<RawRule>,
    /// The smaller one of these and the scenario's wins.
    #[serde(default)]
    pub limits: RawLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "provider")]
pub enum RawProvider {
    /// Follows `rules`.
    Scripted,
    /// Ends at once without an action: a control.
    Noop,
    /// Restarts every node, one after the other: a control.
    RestartAll,
    /// Undoes the fault, which it alone may see: a control.
    Oracle,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "rule")]
pub struct RawRule {
    /// Over `ticket`, `tickets`, `nodes`: always unless given.
    pub when: Option<Text>,
    #[serde(default)]
    pub commands: Vec<Short<RawCommand>>,
    pub diagnosis: Option<RawDiagnosis>,
    /// How the agent ends: `resolve` unless given.
    pub end: Option<RawEnd>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "command")]
pub struct RawCommand {
    /// A line for the shell: a template.
    pub run: Text,
    /// Why, for the record: a template.
    #[serde(default = "no_text")]
    pub reasoning: Text,
    /// Run only if true.
    pub when: Option<Text>,
    /// Repeat until true, within the limits: `last.exit_code == 0`.
    pub until: Option<Text>,
}

fn no_text() -> Text {
    Text(String::new())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "diagnosis")]
pub struct RawDiagnosis {
    pub root_cause: Text,
    /// The node or part at fault.
    pub component: Text,
    /// `process_crash`, `process_hang`, ...
    pub fault_class: String,
    /// 0 to 1: 1 unless given.
    pub confidence: Option<f64>,
    #[serde(default)]
    pub evidence: Vec<Text>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "end")]
pub enum RawEnd {
    Resolve,
    Escalate,
    NoAction,
}
