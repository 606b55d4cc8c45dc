//! What a judge may say, and the tool by which it says it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::agent::model::ToolSpec;
use crate::event::Grade;

/// The tool of a judge.
pub(super) const TOOL: &str = "grade";
/// Characters of its reasons that are kept.
const REASONS: usize = 2_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub root_cause: Cause,
    /// What is cited was shown, and speaks for what is said.
    pub evidence_supported: bool,
    pub reasons: String,
}

/// How near a diagnosis is to what was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Correct,
    Partly,
    Wrong,
}

impl Cause {
    pub const ALL: [Self; 3] = [Self::Correct, Self::Partly, Self::Wrong];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Partly => "partly",
            Self::Wrong => "wrong",
        }
    }

    /// What a grade by rules comes to in these words: node and class both right, neither, or something between.
    #[must_use]
    pub fn of_grade(grade: &Grade) -> Self {
        match (grade.component, grade.fault_class) {
            (component, class) if component >= 1.0 && class >= 1.0 => Self::Correct,
            (component, class) if component <= 0.0 && class <= 0.0 => Self::Wrong,
            _ => Self::Partly,
        }
    }
}

/// Whether all that was cited was shown, by rules. Without anything cited nothing is supported.
#[must_use]
pub fn supported(grade: &Grade) -> bool {
    grade.quotes > 0 && grade.quotes_found == grade.quotes
}

pub(super) fn tool() -> ToolSpec {
    ToolSpec {
        name: TOOL.into(),
        description: "Hands in your judgement of the diagnosis.".into(),
        parameters: json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["root_cause", "evidence_supported", "reasons"],
            "properties": {
                "root_cause": {
                    "type": "string",
                    "enum": Cause::ALL.map(Cause::as_str),
                    "description": "How near the diagnosis is to what was really wrong."
                },
                "evidence_supported": {
                    "type": "boolean",
                    "description": "Whether what is cited was shown to them and speaks for what they say."
                },
                "reasons": { "type": "string", "description": "At most three sentences." }
            }
        }),
    }
}

/// Reads the arguments of the tool. The error is for the model to read.
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
    fn what_a_judge_is_told_is_what_is_taken() {
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
    fn a_grade_is_put_in_the_words_of_a_judge() {
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
