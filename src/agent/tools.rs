//! The tools a model is offered: their schemas, and what its calls mean.
//!
//! A schema is made from the type that reads the arguments, so that what a model is told and what is taken cannot differ.

use indexmap::IndexMap;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::model::ToolSpec;
use super::observe::Asked;
use super::provider::Action;
use crate::action::{Call, describe};
use crate::event::{AgentEnd, Alternative, Diagnosis};
use crate::scenario::model::Tool;
use crate::scenario::{FAULT_CLASSES, names};

/// Runs a command line in a shell that stays the same from call to call. A command that waits for input gets none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Shell {
    /// The command line.
    command: String,
    /// Why: what you expect to learn or to change by it.
    #[serde(default)]
    reasoning: String,
}

/// Does one of the things that may be done to this system. What it requires is looked at first, and you are told only when what it
/// should bring about is so, or how it was refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Act {
    /// Which.
    action: String,
    /// What it is called with, by name.
    #[serde(default)]
    params: Map<String, Value>,
    /// Why: what you expect to change by it.
    #[serde(default)]
    reasoning: String,
}

/// Shows what the monitor sees now: tickets, nodes and their states, and all observations in short, or those that are named in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Observe {
    /// Names of observations that you want in full.
    #[serde(default)]
    observations: Vec<String>,
    /// Names of nodes whose last lines of log you want.
    #[serde(default)]
    logs: Vec<String>,
    /// Why: what you expect to learn by it.
    #[serde(default)]
    reasoning: String,
}

/// Hands in what you have found out. With an `outcome` it ends your work; without one you go on, and may hand in another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SubmitDiagnosis {
    /// What went wrong, in one or two sentences.
    root_cause: String,
    /// The node at fault, by its name; `none` when nothing is wrong.
    component: String,
    /// What kind of fault it is.
    fault_class: String,
    /// From 0 to 1.
    confidence: f64,
    /// What you saw that says so: lines of output, metrics, logs, as they were.
    #[serde(default)]
    evidence: Vec<String>,
    /// What else you have considered.
    #[serde(default)]
    alternatives: Vec<Other>,
    /// What was done, or should be done.
    #[serde(default)]
    recommended_actions: Vec<String>,
    /// Ends your work. `resolved`: it works again, and stays so. `escalate`: people must go on. `no_action`: nothing had to be done.
    #[serde(default)]
    outcome: Option<Outcome>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Other {
    cause: String,
    rejected_because: String,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Resolved,
    Escalate,
    NoAction,
}

/// As a model is told of it. `actions` are those of the cluster.
pub(super) fn spec(tool: Tool, actions: &IndexMap<String, crate::scenario::model::Action>) -> ToolSpec {
    let schema = match tool {
        Tool::Shell => schema::<Shell>(),
        Tool::Act => schema::<Act>(),
        Tool::Observe => schema::<Observe>(),
        Tool::SubmitDiagnosis => schema::<SubmitDiagnosis>(),
    };
    let Value::Object(mut parameters) = schema else { unreachable!("the schema of a struct is an object") };
    parameters.remove("$schema");
    parameters.remove("title");
    let mut description = parameters.remove("description").and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
    if tool == Tool::Act {
        description.push_str(&describe::text(actions));
        parameters["properties"]["action"]["enum"] = actions.keys().cloned().collect();
    }
    if let Some(class) = parameters.get_mut("properties").and_then(|properties| properties.get_mut("fault_class")) {
        class["enum"] = FAULT_CLASSES.iter().copied().collect();
    }
    ToolSpec { name: tool.name().into(), description, parameters: Value::Object(parameters) }
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// What a call asks for. The error is for the model to read.
pub(super) fn actions(tool: Tool, arguments: Map<String, Value>) -> Result<Vec<Action>, String> {
    match tool {
        Tool::Shell => {
            let Shell { command, reasoning } = read(arguments)?;
            if command.trim().is_empty() {
                return Err("`command` is empty".into());
            }
            Ok(vec![Action::Run { command, reasoning }])
        }
        Tool::Act => {
            let Act { action, params, reasoning } = read(arguments)?;
            Ok(vec![Action::Act { call: Call { action, params }, reasoning }])
        }
        Tool::Observe => {
            let Observe { observations, logs, reasoning } = read(arguments)?;
            Ok(vec![Action::Observe { asked: Asked { observations, logs }, reasoning }])
        }
        Tool::SubmitDiagnosis => {
            let given: SubmitDiagnosis = read(arguments)?;
            if !FAULT_CLASSES.contains(&given.fault_class.as_str()) {
                let near =
                    names::closest(&given.fault_class, FAULT_CLASSES).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                return Err(format!("`fault_class` is `{}`, expected one of {}{near}", given.fault_class, names::listed(FAULT_CLASSES)));
            }
            if !(0.0..=1.0).contains(&given.confidence) {
                return Err(format!("`confidence` is {}, expected a number from 0 to 1", given.confidence));
            }
            let alternatives =
                given.alternatives.into_iter().map(|other| Alternative { cause: other.cause, rejected_because: other.rejected_because });
            let detail = given.root_cause.clone();
            let diagnosis = Diagnosis {
                root_cause: given.root_cause,
                component: given.component,
                fault_class: given.fault_class,
                confidence: given.confidence,
                evidence: given.evidence,
                alternatives: alternatives.collect(),
                actions: given.recommended_actions,
            };
            let end = given.outcome.map(|outcome| match outcome {
                Outcome::Resolved => AgentEnd::Resolve,
                Outcome::Escalate => AgentEnd::Escalate,
                Outcome::NoAction => AgentEnd::NoAction,
            });
            Ok([Action::Diagnose(diagnosis)].into_iter().chain(end.map(|end| Action::End { end, detail })).collect())
        }
    }
}

fn read<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(arguments)).map_err(|error| {
        let path = error.path().to_string();
        if path == "." { error.into_inner().to_string() } else { format!("`{path}`: {}", error.inner()) }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(tool: Tool, arguments: Value) -> Result<Vec<Action>, String> {
        let Value::Object(arguments) = arguments else { panic!("an object") };
        actions(tool, arguments)
    }

    #[test]
    fn what_a_model_is_told_is_what_is_taken() {
        for tool in Tool::ALL {
            let spec = spec(tool, &IndexMap::new());
            assert!(!spec.description.is_empty() && spec.parameters["additionalProperties"] == json!(false), "{spec:?}");
            assert!(jsonschema::validator_for(&spec.parameters).is_ok(), "{spec:?}");
        }
        let schema = spec(Tool::SubmitDiagnosis, &IndexMap::new()).parameters;
        assert_eq!(schema["required"], json!(["root_cause", "component", "fault_class", "confidence"]));
        assert!(schema["properties"]["fault_class"]["enum"].as_array().unwrap().contains(&json!("disk_full")));
    }

    #[test]
    fn a_diagnosis_with_an_outcome_is_the_end() {
        let given = json!({ "root_cause": "it was killed", "component": "tikv1", "fault_class": "process_crash", "confidence": 0.9, "outcome": "resolved" });
        let actions = call(Tool::SubmitDiagnosis, given.clone()).unwrap();
        assert!(matches!(&actions[..], [Action::Diagnose(_), Action::End { end: AgentEnd::Resolve, .. }]), "{actions:?}");
        let mut wrong = given;
        wrong["fault_class"] = json!("process_crashed");
        assert!(call(Tool::SubmitDiagnosis, wrong).unwrap_err().contains("did you mean `process_crash`?"));
    }

    #[test]
    fn wrong_arguments_are_told_in_words() {
        let cases = [
            (json!({}), "missing field `command`"),
            (json!({ "command": 7 }), "`command`: invalid type: integer `7`, expected a string"),
            (json!({ "command": "ls", "cmd": 1 }), "unknown field `cmd`"),
            (json!({ "command": "  " }), "`command` is empty"),
        ];
        for (arguments, expected) in cases {
            let said = call(Tool::Shell, arguments).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }
}
