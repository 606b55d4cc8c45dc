//! Messages of a chat completions request: checks of roles and order.

use std::collections::BTreeSet;

use serde_json::Value;

use super::request::{invalid_value, missing, named, wrong_type};
use crate::problem::ApiProblem;
use crate::seen::RequestParts;

/// Checks the messages, and returns the parts of the request to which a script can refer.
///
/// # Errors
/// Returns the error for the client if a message is invalid.
pub fn read(list: &[Value]) -> Result<RequestParts, ApiProblem> {
    if list.is_empty() {
        let words = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
        return Err(ApiProblem::invalid(words).param("messages").code("empty_array"));
    }
    let mut seen = RequestParts::default();
    let mut said: Vec<String> = Vec::new();
    // Ids of the tool calls in the last answer that have no result so far.
    let mut open: BTreeSet<String> = BTreeSet::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (at, message) in list.iter().enumerate() {
        let path = format!("messages[{at}]");
        let map = message.as_object().ok_or_else(|| wrong_type(&path, "an object", message))?;
        let role = map.get("role").ok_or_else(|| missing(&format!("{path}.role")))?.as_str().unwrap_or_default();
        if role != "tool" {
            answered(&open)?;
            open.clear();
        }
        match role {
            "system" | "developer" | "user" => {
                let text = content(message, &path)?.ok_or_else(|| null_content(&path))?;
                if role != "user" {
                    said_by_system(&mut seen, &text);
                    continue;
                }
                if seen.first.is_empty() {
                    seen.first.clone_from(&text);
                }
                said.push(text);
            }
            "assistant" => {
                let calls = calls(message, &path)?;
                if content(message, &path)?.is_none() && calls.is_empty() && map.get("refusal").is_none_or(Value::is_null) {
                    return Err(null_content(&path));
                }
                seen.answers += 1;
                said.clear();
                seen.results.clear();
                for id in &calls {
                    if !open.insert(id.clone()) {
                        return Err(invalid_value(&format!("{path}.tool_calls"), format!("Duplicate tool call id '{id}'.")));
                    }
                }
                known.clone_from(&open);
                seen.called = calls;
            }
            "tool" => {
                let id = map.get("tool_call_id").ok_or_else(|| missing(&format!("{path}.tool_call_id")))?.as_str().unwrap_or_default();
                if !open.remove(id) {
                    let words = if known.contains(id) {
                        format!("Duplicate response to tool call '{id}'.")
                    } else {
                        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.".into()
                    };
                    return Err(ApiProblem::invalid(words).param(format!("messages.[{at}].role")));
                }
                let text = content(message, &path)?.ok_or_else(|| null_content(&path))?;
                seen.results.push(text.clone());
                said.push(text);
            }
            "function" => return Err(invalid_value(&format!("{path}.role"), "Role 'function' is deprecated; use 'tool'.")),
            other => {
                let words = format!(
                    "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'."
                );
                return Err(invalid_value(&format!("{path}.role"), words));
            }
        }
    }
    answered(&open)?;
    seen.last = said.join("\n");
    Ok(seen)
}

fn said_by_system(seen: &mut RequestParts, text: &str) {
    if !seen.system.is_empty() {
        seen.system.push('\n');
    }
    seen.system.push_str(text);
}

fn answered(open: &BTreeSet<String>) -> Result<(), ApiProblem> {
    if open.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = open.iter().map(String::as_str).collect();
    let words = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following \
         tool_call_ids did not have response messages: {}",
        ids.join(", ")
    );
    Err(ApiProblem::invalid(words).param("messages"))
}

fn null_content(path: &str) -> ApiProblem {
    let parameter = format!("{path}.content");
    invalid_value(&parameter, "Invalid value for 'content': expected a string, got null.")
}

/// Returns the text of a message; `None` if the content is null or missing.
fn content(message: &Value, path: &str) -> Result<Option<String>, ApiProblem> {
    let parameter = format!("{path}.content");
    match &message["content"] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(parts) if !parts.is_empty() => {
            let mut texts = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                match part["type"].as_str() {
                    Some("text") => texts.push(part["text"].as_str().ok_or_else(|| missing(&format!("{parameter}[{at}].text")))?),
                    Some("refusal" | "image_url" | "input_audio" | "file") => (),
                    _ => {
                        let words = "Invalid value: supported values are: 'text', 'image_url', 'input_audio', 'refusal', and 'file'.";
                        return Err(invalid_value(&format!("{parameter}[{at}].type"), words));
                    }
                }
            }
            Ok(Some(texts.join("\n")))
        }
        other => Err(wrong_type(&parameter, "a string or an array of parts", other)),
    }
}

/// Returns the ids of the tool calls in a message of the model.
fn calls(message: &Value, path: &str) -> Result<Vec<String>, ApiProblem> {
    let value = match &message["tool_calls"] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(calls) if !calls.is_empty() => calls,
        Value::Array(_) => {
            let words = format!(
                "Invalid '{path}.tool_calls': empty array. Expected an array with minimum length 1, but got an empty array instead."
            );
            return Err(ApiProblem::invalid(words).param(format!("{path}.tool_calls")).code("empty_array"));
        }
        other => return Err(wrong_type(&format!("{path}.tool_calls"), "an array of objects", other)),
    };
    let mut ids = Vec::new();
    for (at, call) in value.iter().enumerate() {
        let path = format!("{path}.tool_calls[{at}]");
        let id = call["id"].as_str().ok_or_else(|| missing(&format!("{path}.id")))?;
        if call["type"] != "function" {
            return Err(invalid_value(&format!("{path}.type"), format!("Invalid value for '{path}.type': expected 'function'.")));
        }
        let name = call["function"]["name"].as_str().ok_or_else(|| missing(&format!("{path}.function.name")))?;
        named(name, &format!("{path}.function.name"))?;
        match &call["function"]["arguments"] {
            Value::String(_) => (),
            Value::Null => return Err(missing(&format!("{path}.function.arguments"))),
            other => return Err(wrong_type(&format!("{path}.function.arguments"), "a string", other)),
        }
        ids.push(id.to_owned());
    }
    Ok(ids)
}
