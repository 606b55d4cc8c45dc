//! Parser of chat completions responses, whole or streamed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::stream_trouble;
use crate::sse::SseEvent;
use crate::wire::{AnswerProgress, Assembly, AttemptError, arguments, excerpt};
use crate::{MessagePart, ModelReply, ModelToolCall, StopReason, Usage};

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    model: String,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Choice {
    message: Map<String, Value>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Counts {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl Counts {
    /// Converts the token counts. The reported count of prompt tokens includes cached tokens.
    fn usage(&self) -> Usage {
        let details = self.prompt_tokens_details.unwrap_or_default();
        let (read, write) = (details.cached_tokens.unwrap_or_default(), details.cache_write_tokens.unwrap_or_default());
        Usage {
            input: self.prompt_tokens.saturating_sub(read).saturating_sub(write),
            output: self.completion_tokens,
            cache_read: read,
            cache_write: write,
            cache_write_long: 0,
            thinking: self.completion_tokens_details.and_then(|details| details.reasoning_tokens).unwrap_or_default(),
        }
    }
}

pub(super) fn reply(body: &str) -> Result<ModelReply, AttemptError> {
    let wrong = |error: serde_json::Error| {
        let what = format!("the answer is no completion ({error}): {}", excerpt(body));
        if error.is_data() { AttemptError::unexpected_reply(what) } else { AttemptError::broken(what) }
    };
    let value: Value = serde_json::from_str(body).map_err(wrong)?;
    // Some servers send an error with a success status.
    if value["error"].is_object() {
        return Err(stream_trouble(&value));
    }
    let completion: Completion = serde_json::from_value(value).map_err(wrong)?;
    let Some(choice) = completion.choices.into_iter().next() else {
        return Err(AttemptError::unexpected_reply(format!("the answer has no choice: {}", excerpt(body))));
    };
    let usage = completion.usage.unwrap_or_default().usage();
    conclude(completion.model, choice.message, choice.finish_reason.as_deref().unwrap_or("null"), usage)
}

fn conclude(model: String, mut message: Map<String, Value>, reason: &str, usage: Usage) -> Result<ModelReply, AttemptError> {
    let mut parts = Vec::new();
    // Field names of vLLM and of other servers.
    if let Some(thought) = ["reasoning", "reasoning_content"].iter().find_map(|name| text(message.get(*name))) {
        parts.push(MessagePart::Thinking(thought));
    }
    parts.extend(text(message.get("content")).map(MessagePart::Text));
    let mut calls = 0;
    if let Some(Value::Array(list)) = message.get_mut("tool_calls") {
        for (index, call) in list.iter_mut().enumerate() {
            parts.push(MessagePart::Call(read_call(call, index)?));
            calls += 1;
        }
    }
    let refusal = text(message.get("refusal"));
    let message = echo(message)?;
    // Tool calls decide, because vLLM reports `stop` for a message with calls.
    let stop = match reason {
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::Refusal { category: Some(reason.to_owned()), explanation: refusal },
        _ if refusal.is_some() => StopReason::Refusal { category: None, explanation: refusal },
        "stop" | "tool_calls" | "function_call" if calls > 0 => StopReason::Calls,
        "stop" => StopReason::End,
        other => StopReason::Other(other.to_owned()),
    };
    Ok(ModelReply { parts, stop, usage, model, request: None, message })
}

/// Returns the text of a value that is a string or a list of text parts. Returns `None` if the text is empty.
fn text(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Parses a tool call, and repairs parts of `call` that servers refuse in later requests.
fn read_call(call: &mut Value, index: usize) -> Result<ModelToolCall, AttemptError> {
    let Some(tool) = call["function"]["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned) else {
        return Err(AttemptError::unexpected_reply(format!("a call without the name of a function: {}", excerpt(&call.to_string()))));
    };
    let given = match &call["function"]["arguments"] {
        Value::Null => Ok(Map::new()),
        Value::String(text) => arguments(text),
        Value::Object(arguments) => Ok(arguments.clone()),
        other => arguments(&other.to_string()),
    };
    let written = call["function"]["arguments"].as_str().is_some_and(|text| !text.trim().is_empty());
    if given.is_err() || !written {
        // Chat templates of vLLM parse the arguments again and would refuse the conversation from then on.
        let whole = given.as_ref().map_or_else(|_| "{}".into(), |arguments| Value::Object(arguments.clone()).to_string());
        call["function"]["arguments"] = whole.into();
    }
    let id = match call["id"].as_str() {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => {
            let hash = blake3::hash(format!("{index} {call}").as_bytes()).to_hex();
            call["id"] = format!("call_{}", &hash[..24]).into();
            format!("call_{}", &hash[..24])
        }
    };
    if call["type"].is_null() {
        call["type"] = "function".into();
    }
    Ok(ModelToolCall { id, tool, arguments: given })
}

/// Returns the message for later requests: without fields that occur only in responses, and without empty fields, which servers refuse.
fn echo(message: Map<String, Value>) -> Result<Box<RawValue>, AttemptError> {
    let mut said = Map::new();
    said.insert("role".into(), "assistant".into());
    let content = message.get("content").cloned().unwrap_or_default();
    said.insert("content".into(), content);
    for (name, value) in message {
        let nothing = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if !nothing && !matches!(name.as_str(), "role" | "content" | "annotations") {
            said.insert(name, value);
        }
    }
    if !said.contains_key("tool_calls") && said["content"].is_null() {
        said["content"] = "".into();
    }
    RawValue::from_string(Value::Object(said).to_string())
        .map_err(|error| AttemptError::unexpected_reply(format!("the answer cannot be kept: {error}")))
}

/// Message that is assembled from stream events.
#[derive(Default)]
pub(super) struct ChatPieces {
    model: String,
    message: Map<String, Value>,
    calls: BTreeMap<u64, Map<String, Value>>,
    reason: Option<String>,
    counts: Option<Counts>,
    said: u64,
    ended: bool,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<ChunkChoice>,
    #[serde(default)]
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Map<String, Value>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// Merges a streamed value into a message. Text and lists are appended, and other values are replaced.
fn merge(into: &mut Map<String, Value>, name: String, value: Value) {
    match (into.get_mut(&name), value) {
        (_, Value::Null) => {}
        (Some(Value::String(text)), Value::String(piece)) => text.push_str(&piece),
        (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
        (Some(Value::Object(object)), Value::Object(more)) => more.into_iter().for_each(|(name, value)| merge(object, name, value)),
        (Some(there), value) => *there = value,
        (None, value) => {
            into.insert(name, value);
        }
    }
}

impl ChatPieces {
    fn delta(&mut self, delta: Map<String, Value>) -> Result<(), AttemptError> {
        for (name, value) in delta {
            match (name.as_str(), value) {
                // Servers send the role once or in every piece.
                ("role", _) => {}
                ("tool_calls", Value::Array(calls)) => {
                    for call in calls {
                        self.call(call)?;
                    }
                }
                (_, value) => {
                    self.said += value.as_str().map_or(0, str::len) as u64;
                    merge(&mut self.message, name, value);
                }
            }
        }
        Ok(())
    }

    fn call(&mut self, call: Value) -> Result<(), AttemptError> {
        let Value::Object(mut call) = call else {
            return Err(AttemptError::broken(format!("a piece of a call is no object: {}", excerpt(&call.to_string()))));
        };
        let last = self.calls.last_key_value().map(|(index, _)| *index);
        let index = match (call.remove("index").and_then(|index| index.as_u64()), last) {
            (Some(index), _) => index,
            // Without an index, a piece with an id begins another call.
            (None, Some(last)) if call.get("id").is_some_and(Value::is_string) => last + 1,
            (None, last) => last.unwrap_or_default(),
        };
        let growing = self.calls.entry(index).or_default();
        for (name, value) in call {
            match (name.as_str(), value) {
                ("function", Value::Object(function)) => {
                    let there = growing.entry("function").or_insert_with(|| json!({}));
                    let Value::Object(there) = there else { continue };
                    for (name, value) in function {
                        self.said += value.as_str().map_or(0, str::len) as u64;
                        match name.as_str() {
                            // The name is complete. Some servers repeat it in every piece.
                            "name" if there.contains_key("name") && value.as_str().is_none_or(|name| there["name"] == name) => {}
                            _ => merge(there, name, value),
                        }
                    }
                }
                ("id" | "type", value) if growing.contains_key(&name) || value.is_null() => {}
                (_, value) => merge(growing, name, value),
            }
        }
        Ok(())
    }
}

impl Assembly for ChatPieces {
    fn take(&mut self, event: &SseEvent) -> Result<(), AttemptError> {
        let data = event.data.trim();
        if data == "[DONE]" {
            self.ended = true;
            return Ok(());
        }
        let wrong = |error| AttemptError::broken(format!("an event of the stream cannot be read ({error}): {}", excerpt(data)));
        let value: Value = serde_json::from_str(data).map_err(wrong)?;
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Err(stream_trouble(&value));
        }
        let chunk: Chunk = serde_json::from_value(value).map_err(wrong)?;
        if let Some(model) = chunk.model.filter(|_| self.model.is_empty()) {
            self.model = model;
        }
        for choice in chunk.choices {
            if choice.index == 0 {
                self.delta(choice.delta)?;
                self.reason = choice.finish_reason.or(self.reason.take());
            } else {
                // Additional answers are ignored, but they cost tokens.
                let said = choice.delta.iter().filter(|(name, _)| *name != "role");
                self.said += said.map(|(_, value)| value.as_str().map_or_else(|| value.to_string().len(), str::len) as u64).sum::<u64>();
            }
        }
        self.counts = chunk.usage.or(self.counts);
        Ok(())
    }

    fn ended(&self) -> bool {
        self.ended
    }

    fn tally(&self) -> AnswerProgress {
        let usage = self.counts.map(|counts| counts.usage()).unwrap_or_default();
        // vLLM may also report counts before the end.
        AnswerProgress { usage, said: self.said, counted: self.counts.is_some() && self.reason.is_some() }
    }

    fn finish(mut self: Box<Self>) -> Result<ModelReply, AttemptError> {
        let Some(reason) = self.reason.take() else {
            return Err(AttemptError::broken("the stream ended before the answer did: no `finish_reason` was seen"));
        };
        if !self.calls.is_empty() {
            let calls = std::mem::take(&mut self.calls).into_values().map(Value::Object).collect();
            self.message.insert("tool_calls".into(), Value::Array(calls));
        }
        let usage = self.counts.unwrap_or_default().usage();
        conclude(self.model, self.message, &reason, usage)
    }
}
