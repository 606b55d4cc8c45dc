//! Request bodies of the Messages API.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Anthropic, Caching, Version};
use crate::{CallResult, ConversationEntry, Spec, Thinking, ToolSpec};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<[System<'a>; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    /// Request for automatic caching. The server marks the last cacheable block itself, so the blocks of the history never change.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct System<'a> {
    r#type: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Value>,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: &'a Value,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Message<'a> {
    Assistant(&'a RawValue),
    User { role: &'static str, content: Vec<Block<'a>> },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        content: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

pub(super) fn body(wire: &Anthropic, spec: &Spec, history: &[ConversationEntry], stream: bool) -> Result<Vec<u8>, String> {
    if spec.temperature.is_some() && wire.version == Version::October2026 {
        return Err("version 2026-10-21 of the Messages API takes no `temperature`: leave it out, or set the version to 2023-06-01".into());
    }
    if let Thinking::Budget(budget) = spec.thinking
        && !(1024..spec.max_tokens).contains(&budget)
    {
        return Err(format!("a thinking budget of {budget} tokens is not between 1024 and the {} tokens of an answer", spec.max_tokens));
    }
    let cache = match wire.cache {
        Caching::Off => None,
        Caching::FiveMinutes => Some(json!({ "type": "ephemeral" })),
        Caching::OneHour => Some(json!({ "type": "ephemeral", "ttl": "1h" })),
    };
    let system = (!spec.system.is_empty()).then(|| [System { r#type: "text", text: &spec.system, cache_control: cache.clone() }]);
    let body = Body {
        model: &spec.model,
        max_tokens: spec.max_tokens,
        system,
        tools: spec.tools.iter().map(tool).collect(),
        messages: messages(history),
        thinking: thinking(spec.thinking),
        output_config: spec.effort.as_ref().map(|effort| json!({ "effort": effort })),
        temperature: spec.temperature,
        cache_control: cache,
        stream,
    };
    serde_json::to_vec(&body).map_err(|error| format!("the request cannot be written: {error}"))
}

fn tool(tool: &ToolSpec) -> Tool<'_> {
    Tool { name: &tool.name, description: &tool.description, input_schema: &tool.parameters }
}

fn thinking(thinking: Thinking) -> Option<Value> {
    match thinking {
        Thinking::Unsaid => None,
        Thinking::Adaptive => Some(json!({ "type": "adaptive", "display": "summarized" })),
        Thinking::Budget(tokens) => Some(json!({ "type": "enabled", "budget_tokens": tokens })),
        Thinking::BetweenTools => Some(json!({ "type": "between_tools" })),
        Thinking::Off => Some(json!({ "type": "disabled" })),
    }
}

/// Converts the history to messages of the API. Consecutive user turns become one message. A longer history only appends to the result.
fn messages(history: &[ConversationEntry]) -> Vec<Message<'_>> {
    let mut messages: Vec<Message<'_>> = Vec::new();
    for entry in history {
        let blocks = match entry {
            // The server refuses an empty message of the model.
            ConversationEntry::Assistant(message) if super::answer::is_empty(message) => continue,
            ConversationEntry::Assistant(message) => {
                messages.push(Message::Assistant(message));
                continue;
            }
            // The server refuses an empty text as well.
            ConversationEntry::User(text) if text.is_empty() => continue,
            ConversationEntry::User(text) => vec![Block::Text { text }],
            ConversationEntry::Results(results) => results.iter().map(result).collect(),
        };
        match messages.last_mut() {
            Some(Message::User { content, .. }) => content.extend(blocks),
            _ => messages.push(Message::User { role: "user", content: blocks }),
        }
    }
    messages
}

fn result(result: &CallResult) -> Block<'_> {
    Block::ToolResult { tool_use_id: &result.id, content: &result.text, is_error: result.failed }
}
