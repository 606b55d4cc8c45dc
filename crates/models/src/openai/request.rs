//! Request bodies of the chat completions API.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{LimitName, OpenAi};
use crate::{CallResult, ConversationEntry, Spec, Thinking, ToolSpec};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    /// Tools that the model may call. An empty list is omitted from the request, because servers refuse it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Message<'a> {
    Said { role: &'static str, content: &'a str },
    Assistant(&'a RawValue),
    Result { role: &'static str, tool_call_id: &'a str, content: String },
}

pub(super) fn body(wire: &OpenAi, spec: &Spec, history: &[ConversationEntry], stream: bool) -> Result<Vec<u8>, String> {
    let effort = match spec.thinking {
        Thinking::Unsaid | Thinking::Adaptive => spec.effort.as_deref(),
        Thinking::Off => match spec.effort.as_deref() {
            None | Some("none") => Some("none"),
            Some(effort) => return Err(format!("thinking is switched off and has the effort `{effort}`: leave one of them out")),
        },
        Thinking::Budget(_) | Thinking::BetweenTools => {
            return Err("chat completions know neither a budget for thinking nor where it happens: say `effort` instead".into());
        }
    };
    let (max_completion_tokens, max_tokens) = match wire.limit {
        LimitName::MaxCompletionTokens => (Some(spec.max_tokens), None),
        LimitName::MaxTokens => (None, Some(spec.max_tokens)),
    };
    let system = (!spec.system.is_empty()).then_some(Message::Said { role: "system", content: &spec.system });
    let body = Body {
        model: &spec.model,
        messages: system.into_iter().chain(history.iter().flat_map(messages)).collect(),
        tools: spec.tools.iter().map(tool).collect(),
        max_completion_tokens,
        max_tokens,
        reasoning_effort: effort,
        temperature: spec.temperature,
        stream,
        stream_options: stream.then(|| json!({ "include_usage": true })),
    };
    serde_json::to_vec(&body).map_err(|error| format!("the request cannot be written: {error}"))
}

fn tool(tool: &ToolSpec) -> Value {
    json!({ "type": "function", "function": { "name": tool.name, "description": tool.description, "parameters": tool.parameters } })
}

fn messages(entry: &ConversationEntry) -> Vec<Message<'_>> {
    match entry {
        ConversationEntry::User(text) => vec![Message::Said { role: "user", content: text }],
        ConversationEntry::Assistant(message) => vec![Message::Assistant(message)],
        ConversationEntry::Results(results) => results.iter().map(result).collect(),
    }
}

/// Converts the result of a tool call to a message. The text marks a failed call, because the wire format has no field for failures.
fn result(CallResult { id, text, failed }: &CallResult) -> Message<'_> {
    let content = match (failed, text.is_empty()) {
        (false, _) => text.clone(),
        (true, true) => "(failed)".to_owned(),
        (true, false) => format!("(failed) {text}"),
    };
    Message::Result { role: "tool", tool_call_id: id, content }
}
