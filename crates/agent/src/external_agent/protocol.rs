//! Protocol of an external agent: JSON objects with a known `type`, one per line.
//!
//! ```json
//! {"type":"command","command":"docker start db2","exit_code":0,"reasoning":"it has ended","output":"db2\\n"}
//! {"type":"diagnosis","root_cause":"it was killed","component":"db2","fault_class":"process_crash","confidence":0.9}
//! {"type":"usage","tokens":1200,"usd":0.01}
//! {"type":"end","outcome":"resolved","detail":"it is back"}
//! ```

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::tools;
use crate::turn::{ProviderAction, Reported};
use chaosrun_event::AgentEnd;
use chaosrun_scenario::model::Tool;

/// Meaning of one output line of an external agent.
#[derive(Debug, PartialEq)]
pub(super) enum ProtocolLine {
    Command(Reported),
    /// Diagnosis. If the diagnosis names an outcome, the end of the session follows.
    Actions(Vec<ProviderAction>),
    End {
        end: AgentEnd,
        detail: String,
    },
    Usage(Reports),
    /// Line that is plain text and no protocol message.
    Said,
    /// Error text for a malformed protocol message.
    Wrong(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ran {
    command: String,
    #[serde(default)]
    reasoning: String,
    #[serde(default)]
    exit_code: i32,
    #[serde(default)]
    output: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ends {
    outcome: Outcome,
    #[serde(default)]
    detail: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    #[serde(alias = "resolve")]
    Resolved,
    Escalate,
    NoAction,
}

/// Usage of models that an external agent reports.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reports {
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
}

pub(super) fn read(line: &str) -> ProtocolLine {
    let line = line.trim();
    if !line.starts_with('{') {
        return ProtocolLine::Said;
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else { return ProtocolLine::Said };
    let Some(Value::String(kind)) = fields.remove("type") else { return ProtocolLine::Said };
    let understood = match kind.as_str() {
        "command" => typed(fields)
            .map(|Ran { command, reasoning, exit_code, output }| ProtocolLine::Command(Reported { command, reasoning, exit_code, output })),
        "diagnosis" => tools::actions(Tool::SubmitDiagnosis, fields).map(ProtocolLine::Actions),
        "end" => typed(fields).map(|Ends { outcome, detail }| {
            let end = match outcome {
                Outcome::Resolved => AgentEnd::Resolve,
                Outcome::Escalate => AgentEnd::Escalate,
                Outcome::NoAction => AgentEnd::NoAction,
            };
            ProtocolLine::End { end, detail }
        }),
        "usage" => typed(fields).map(ProtocolLine::Usage),
        // Programs also print JSON that is not part of the protocol.
        _ => return ProtocolLine::Said,
    };
    understood.unwrap_or_else(|why| ProtocolLine::Wrong(format!("invalid line of type `{kind}`: {why}")))
}

fn typed<T: serde::de::DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        if path == "." { error.into_inner().to_string() } else { format!("`{path}`: {}", error.inner()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_by_type() {
        let ProtocolLine::Command(ran) = read(r#" {"type":"command","command":"docker ps","exit_code":1,"reasoning":"look"} "#) else {
            panic!()
        };
        assert_eq!((ran.command.as_str(), ran.exit_code, ran.reasoning.as_str()), ("docker ps", 1, "look"));
        let diagnosis = r#"{"type":"diagnosis","root_cause":"killed","component":"db2","fault_class":"process_crash","confidence":1}"#;
        assert!(matches!(&read(diagnosis), ProtocolLine::Actions(actions) if matches!(actions[..], [ProviderAction::Diagnose(_)])));
        let ends = diagnosis.replace(r#""confidence":1"#, r#""confidence":1,"outcome":"escalate""#);
        assert!(
            matches!(&read(&ends), ProtocolLine::Actions(actions) if matches!(actions[..], [_, ProviderAction::End { end: AgentEnd::Escalate, .. }]))
        );
        assert_eq!(read(r#"{"type":"end","outcome":"no_action"}"#), ProtocolLine::End { end: AgentEnd::NoAction, detail: String::new() });
        assert_eq!(read(r#"{"type":"usage","usd":0.5}"#), ProtocolLine::Usage(Reports { tokens: None, usd: Some(0.5) }));
        for said in ["hello", "{", "{}", "[1]", r#"{"type":7}"#, r#"{"type":"tool_use","name":"x"}"#, ""] {
            assert_eq!(read(said), ProtocolLine::Said, "{said}");
        }
        for (wrong, how) in [
            (r#"{"type":"end","outcome":"fine"}"#, "unknown variant `fine`"),
            (r#"{"type":"command"}"#, "missing field `command`"),
            (r#"{"type":"usage","dollars":1}"#, "unknown field `dollars`"),
            (&diagnosis.replace("process_crash", "process_crashed"), "did you mean `process_crash`?"),
        ] {
            assert!(matches!(read(wrong), ProtocolLine::Wrong(said) if said.contains(how)), "{wrong}");
        }
    }
}
