//! Tools offered to a model: their schemas and the meaning of their calls.
//!
//! Each schema is derived from the type that parses the arguments, so the offered and the accepted arguments cannot differ.

use indexmap::IndexMap;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::turn::{ObserveRequest, ProviderAction};
use chaosrun_action::{ActionCall, describe};
use chaosrun_event::{AgentEnd, Alternative, Diagnosis};
use chaosrun_input::names;
use chaosrun_models::ToolSpec;
use chaosrun_scenario::FAULT_CLASSES;
use chaosrun_scenario::model::Tool;

/// Runs a command line in a shell. The shell keeps its state between calls. Commands have no standard input.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Shell {
    /// The command line.
    command: String,
    /// The expected result of the command: information or a change.
    #[serde(default)]
    reasoning: String,
}

/// Performs one of the actions listed below. The call first checks the preconditions of the action. It returns when the intended effect
/// has been observed, or when the action has failed. A failure is returned with its reason.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Act {
    /// Name of the action.
    action: String,
    /// Parameters of the action, by name.
    #[serde(default)]
    params: Map<String, Value>,
    /// The expected change.
    #[serde(default)]
    reasoning: String,
}

/// Shows what the monitor sees now: tickets, nodes with their states, and a summary of all observations. If you name observations or
/// nodes, the result contains their full values or log lines instead of the summary.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Observe {
    /// Names of observations whose full values are returned.
    #[serde(default)]
    observations: Vec<String>,
    /// Names of nodes whose last log lines are returned.
    #[serde(default)]
    logs: Vec<String>,
    /// The expected information.
    #[serde(default)]
    reasoning: String,
}

/// Submits a diagnosis. With an `outcome`, the session ends. Without an `outcome`, you can continue and submit another diagnosis.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SubmitDiagnosis {
    /// Root cause, in one or two sentences.
    root_cause: String,
    /// Name of the faulty node, or `none` if nothing is wrong.
    component: String,
    /// Class of the fault.
    fault_class: String,
    /// Confidence in this diagnosis, from 0 to 1.
    confidence: f64,
    /// Evidence: lines of output, metrics or logs, quoted exactly as you saw them.
    #[serde(default)]
    evidence: Vec<String>,
    /// Other causes that you considered.
    #[serde(default)]
    alternatives: Vec<Other>,
    /// Actions that you performed or that you recommend.
    #[serde(default)]
    recommended_actions: Vec<String>,
    /// Ends the session. `resolved`: the system has recovered and stays healthy. `escalate`: a person must continue. `no_action`: no
    /// action was needed.
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

/// Returns the specification of a tool that is sent to a model. `actions` are the actions that the cluster file declares.
pub(super) fn spec(tool: Tool, actions: &IndexMap<String, chaosrun_scenario::model::Action>) -> ToolSpec {
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

/// Translates a tool call into actions. The error is a text for the model.
pub(super) fn actions(tool: Tool, arguments: Map<String, Value>) -> Result<Vec<ProviderAction>, String> {
    match tool {
        Tool::Shell => {
            let Shell { command, reasoning } = read(arguments)?;
            if command.trim().is_empty() {
                return Err("`command` is empty".into());
            }
            Ok(vec![ProviderAction::Run { command, reasoning }])
        }
        Tool::Act => {
            let Act { action, params, reasoning } = read(arguments)?;
            Ok(vec![ProviderAction::Act { call: ActionCall { action, params }, reasoning }])
        }
        Tool::Observe => {
            let Observe { observations, logs, reasoning } = read(arguments)?;
            Ok(vec![ProviderAction::Observe { asked: ObserveRequest { observations, logs }, reasoning }])
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
            Ok([ProviderAction::Diagnose(diagnosis)].into_iter().chain(end.map(|end| ProviderAction::End { end, detail })).collect())
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

    fn call(tool: Tool, arguments: Value) -> Result<Vec<ProviderAction>, String> {
        let Value::Object(arguments) = arguments else { panic!("an object") };
        actions(tool, arguments)
    }

    #[test]
    fn schema_matches_accepted_arguments() {
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
    fn diagnosis_with_outcome_ends_the_session() {
        let given = json!({ "root_cause": "it was killed", "component": "tikv1", "fault_class": "process_crash", "confidence": 0.9, "outcome": "resolved" });
        let actions = call(Tool::SubmitDiagnosis, given.clone()).unwrap();
        assert!(matches!(&actions[..], [ProviderAction::Diagnose(_), ProviderAction::End { end: AgentEnd::Resolve, .. }]), "{actions:?}");
        let mut wrong = given;
        wrong["fault_class"] = json!("process_crashed");
        assert!(call(Tool::SubmitDiagnosis, wrong).unwrap_err().contains("did you mean `process_crash`?"));
    }

    #[test]
    fn argument_errors_are_explained() {
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
