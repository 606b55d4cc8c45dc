//! Input of a Responses API request: items of the client and of the model, and the match between tool calls and their outputs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tools::{self, Offered};
use crate::openai::request::{invalid_value, missing, named, wrong_type};
use crate::problem::ApiProblem;
use crate::seen::RequestParts;

/// Parsed and checked input of a request.
#[derive(Debug, Default)]
pub struct ParsedInput {
    pub seen: RequestParts,
    /// Tools that the client declares in items between messages.
    pub tools: Vec<Offered>,
    /// Texts of the client that follow the model's last answer.
    said: Vec<String>,
    /// Required kind of output for each tool call, and true if the input contains the output, by call id.
    calls: BTreeMap<String, (&'static str, bool)>,
    /// True if the previous item comes from the model.
    models: bool,
}

/// Types of items of the model that need no output of the client.
const OF_THE_MODEL: [&str; 9] = [
    "code_interpreter_call",
    "compaction",
    "compaction_summary",
    "file_search_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "tool_search_call",
    "web_search_call",
];
/// Types of items of the client to which a script cannot refer.
const OF_THE_CLIENT: [&str; 3] = ["compaction_trigger", "mcp_approval_response", "tool_search_output"];

/// Checks the input, and returns the parts of the request to which a script can refer.
///
/// # Errors
/// Returns the error for the client if the input is invalid.
pub fn read(input: &Value) -> Result<ParsedInput, ApiProblem> {
    let mut read = ParsedInput::default();
    match input {
        Value::String(text) => read.hears(text.clone()),
        Value::Array(list) if list.is_empty() => {
            let words = "Invalid 'input': empty array. Expected an array with minimum length 1, but got an empty array instead.";
            return Err(ApiProblem::invalid(words).param("input").code("empty_array"));
        }
        Value::Array(list) => {
            for (at, item) in list.iter().enumerate() {
                read.item(item, &format!("input[{at}]"))?;
            }
        }
        other => return Err(wrong_type("input", "a string or an array of items", other)),
    }
    if let Some((id, _)) = read.calls.iter().find(|(_, (_, answered))| !answered) {
        return Err(ApiProblem::invalid(format!("No tool output found for function call {id}.")).param("input"));
    }
    read.seen.last = read.said.join("\n");
    Ok(read)
}

impl ParsedInput {
    fn item(&mut self, item: &Value, path: &str) -> Result<(), ApiProblem> {
        let map = item.as_object().ok_or_else(|| wrong_type(path, "an object", item))?;
        // The field `type` of a message is optional.
        let kind = map.get("type").map_or("message", |kind| kind.as_str().unwrap_or_default());
        match kind {
            "message" => self.message(item, path),
            "reasoning" => {
                self.answers();
                if item["id"].is_string() || item["encrypted_content"].is_string() {
                    return Ok(());
                }
                Err(missing(&format!("{path}.id")))
            }
            "function_call" => self.call(item, path, "function_call_output", "arguments"),
            "custom_tool_call" => self.call(item, path, "custom_tool_call_output", "input"),
            "function_call_output" => self.output(item, path, "function_call_output", "function call output"),
            "custom_tool_call_output" => self.output(item, path, "custom_tool_call_output", "custom tool call output"),
            "additional_tools" => {
                self.tools.extend(tools::read(&item["tools"], &format!("{path}.tools"))?);
                Ok(())
            }
            "item_reference" => {
                let id = item["id"].as_str().unwrap_or_default();
                let words = format!("Item with id '{id}' not found. Items are not persisted when `store` is set to false.");
                Err(ApiProblem::new(404, words).param("input").code("not_found"))
            }
            kind if OF_THE_MODEL.contains(&kind) => {
                self.answers();
                Ok(())
            }
            kind if OF_THE_CLIENT.contains(&kind) => Ok(()),
            other => Err(invalid_value(&format!("{path}.type"), format!("Invalid value: '{other}'."))),
        }
    }

    fn message(&mut self, item: &Value, path: &str) -> Result<(), ApiProblem> {
        let role = item.get("role").ok_or_else(|| missing(&format!("{path}.role")))?.as_str().unwrap_or_default();
        let parts: &[&str] = match role {
            "user" | "system" | "developer" => &["input_text", "input_image", "input_file", "input_audio"],
            "assistant" => &["output_text", "refusal"],
            other => {
                let words = format!("Invalid value: '{other}'. Supported values are: 'assistant', 'system', 'developer', and 'user'.");
                return Err(invalid_value(&format!("{path}.role"), words));
            }
        };
        let text = content(&item["content"], &format!("{path}.content"), parts)?;
        match role {
            "assistant" => self.answers(),
            "user" => self.hears(text),
            _ => {
                if !self.seen.system.is_empty() {
                    self.seen.system.push('\n');
                }
                self.seen.system.push_str(&text);
            }
        }
        Ok(())
    }

    /// Records a text of the client as part of the current question.
    fn hears(&mut self, text: String) {
        self.models = false;
        // All messages before the first answer form one question.
        if self.seen.answers == 0 {
            if !self.seen.first.is_empty() {
                self.seen.first.push('\n');
            }
            self.seen.first.push_str(&text);
        }
        self.said.push(text);
    }

    /// Records an item of the model. Items of the model that directly follow each other belong to the same answer.
    fn answers(&mut self) {
        if !std::mem::replace(&mut self.models, true) {
            self.seen.answers += 1;
            self.seen.called.clear();
            self.seen.results.clear();
            self.said.clear();
        }
    }

    fn call(&mut self, item: &Value, path: &str, output: &'static str, words: &str) -> Result<(), ApiProblem> {
        let text = |key: &str| {
            let value = item.get(key).ok_or_else(|| missing(&format!("{path}.{key}")))?;
            value.as_str().ok_or_else(|| wrong_type(&format!("{path}.{key}"), "a string", value))
        };
        let id = text("call_id")?;
        named(text("name")?, &format!("{path}.name"))?;
        text(words)?;
        self.answers();
        if self.calls.insert(id.to_owned(), (output, false)).is_some() {
            return Err(invalid_value(&format!("{path}.call_id"), format!("Duplicate tool call id '{id}'.")));
        }
        self.seen.called.push(id.to_owned());
        Ok(())
    }

    fn output(&mut self, item: &Value, path: &str, kind: &str, called: &str) -> Result<(), ApiProblem> {
        let id = item.get("call_id").ok_or_else(|| missing(&format!("{path}.call_id")))?.as_str().unwrap_or_default();
        let Some((_, answered)) = self.calls.get_mut(id).filter(|(expected, _)| *expected == kind) else {
            return Err(ApiProblem::invalid(format!("No tool call found for {called} with call_id {id}.")).param("input"));
        };
        *answered = true;
        let text = content(&item["output"], &format!("{path}.output"), &["input_text", "input_image", "input_file", "input_audio"])?;
        self.models = false;
        self.seen.results.push(text.clone());
        self.said.push(text);
        Ok(())
    }
}

/// Returns the text of a message or of a tool output. `known` lists the accepted content types.
fn content(value: &Value, path: &str, known: &[&str]) -> Result<String, ApiProblem> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let mut texts = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                let kind = part["type"].as_str().unwrap_or_default();
                if !known.contains(&kind) {
                    let words = format!("Invalid value: '{kind}'. Supported values are: '{}'.", known.join("', '"));
                    return Err(invalid_value(&format!("{path}[{at}].type"), words));
                }
                texts.extend(part["text"].as_str());
            }
            Ok(texts.join("\n"))
        }
        Value::Null => Err(missing(path)),
        other => Err(wrong_type(path, "a string or an array of parts", other)),
    }
}
