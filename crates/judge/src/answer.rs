//! Answer of a judge model, and the tool that the model calls to give the answer.

use serde_json::{Map, Value, json};

use chaosrun_event::{Cause, Grade, JudgeAnswer as Answer};
use chaosrun_models::ToolSpec;

/// Name of the tool that a judge model calls to give its answer.
pub(super) const TOOL: &str = "grade";
/// Maximum number of characters of the judge's reasons that are stored.
const REASONS: usize = 2_000;

/// Returns true if the diagnosis cites evidence and, according to the rules, all cited evidence was shown to the agent.
#[must_use]
pub fn supported(grade: &Grade) -> bool {
    grade.quotes > 0 && grade.quotes_found == grade.quotes
}

pub(super) fn tool() -> ToolSpec {
    ToolSpec {
        name: TOOL.into(),
        description: "Submits your grade of the diagnoses.".into(),
        parameters: json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["root_cause", "evidence_supported", "reasons"],
            "properties": {
                "root_cause": {
                    "type": "string",
                    "enum": Cause::ALL.map(Cause::as_str),
                    "description": "Whether the diagnosis names what was injected and where."
                },
                "evidence_supported": {
                    "type": "boolean",
                    "description": "Whether the cited evidence was shown to the engineer and supports the diagnosis."
                },
                "reasons": { "type": "string", "description": "Reasons for the grade, at most three sentences." }
            }
        }),
    }
}

/// Parses the arguments of the judge's tool call. The error is a text for the model.
pub(super) fn read(arguments: Map<String, Value>) -> Result<Answer, String> {
    let mut answer: Answer = serde_path_to_error::deserialize(Value::Object(arguments)).map_err(|error| {
        let path = error.path().to_string();
        if path == "." { error.into_inner().to_string() } else { format!("`{path}`: {}", error.inner()) }
    })?;
    if let Some((end, _)) = answer.reasons.char_indices().nth(REASONS) {
        answer.reasons.truncate(end);
        answer.reasons.push('…');
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(arguments: Value) -> Result<Answer, String> {
        let Value::Object(arguments) = arguments else { panic!("an object") };
        read(arguments)
    }

    #[test]
    fn tool_schema_matches_accepted_arguments() {
        let schema = tool().parameters;
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        for cause in Cause::ALL {
            let good = json!({ "root_cause": cause.as_str(), "evidence_supported": true, "reasons": "It is." });
            assert!(validator.is_valid(&good));
            assert_eq!(taken(good).expect("taken").root_cause, cause);
        }
        for bad in [
            json!({ "root_cause": "good", "evidence_supported": true, "reasons": "" }),
            json!({ "root_cause": "wrong", "evidence_supported": "no", "reasons": "" }),
            json!({ "root_cause": "wrong", "reasons": "" }),
            json!({ "root_cause": "wrong", "evidence_supported": true, "reasons": "", "score": 1 }),
        ] {
            assert!(!validator.is_valid(&bad) && taken(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn grade_of_rules_converts_to_judge_grade() {
        let grade = |component, fault_class| Grade {
            submitted: 1,
            faults: Vec::new(),
            component,
            fault_class,
            quotes: 2,
            quotes_found: 1,
            not_found: Vec::new(),
        };
        let words = [(1.0, 1.0), (1.0, 0.5), (0.0, 0.5), (0.0, 0.0)].map(|(node, class)| Cause::of_grade(&grade(node, class)));
        assert_eq!(words, [Cause::Correct, Cause::Partly, Cause::Partly, Cause::Wrong]);
        assert!(!supported(&grade(1.0, 1.0)) && supported(&Grade { quotes_found: 2, ..grade(1.0, 1.0) }));
        assert!(!supported(&Grade { quotes: 0, quotes_found: 0, ..grade(1.0, 1.0) }));
    }
}
