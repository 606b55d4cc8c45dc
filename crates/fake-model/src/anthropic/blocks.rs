//! Messages of a Messages API request: checks of roles, blocks and order.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::field::{self, Object};
use super::request::ApiVersion;
use crate::problem::ApiProblem;

const MOST: usize = 100_000;

/// Consecutive messages of one role, combined into one message.
#[derive(Debug)]
pub struct CombinedMessage<'a> {
    pub role: &'a str,
    /// Index in the request of the first of the combined messages.
    pub index: usize,
    pub blocks: Vec<Block<'a>>,
}

#[derive(Debug)]
pub struct Block<'a> {
    pub path: String,
    pub kind: String,
    pub value: Cow<'a, Value>,
}

/// Parses and checks the messages, and combines consecutive messages of one role. If `per_turn` is true, a system message may set the
/// effort of the following turns.
///
/// # Errors
/// Returns the error for the client if a message is invalid.
pub fn read(value: &Value, version: ApiVersion, per_turn: bool) -> Result<Vec<CombinedMessage<'_>>, ApiProblem> {
    let list = value.as_array().ok_or_else(|| ApiProblem::invalid("messages: Input should be a valid list"))?;
    if list.is_empty() {
        return Err(ApiProblem::invalid("messages: at least one message is required"));
    }
    if list.len() > MOST {
        return Err(ApiProblem::invalid(format!("messages: List should have at most {MOST} items after validation, not {}", list.len())));
    }
    let mut messages: Vec<CombinedMessage<'_>> = Vec::new();
    for (index, message) in list.iter().enumerate() {
        let path = format!("messages.{index}");
        let known: &[&str] =
            if per_turn && message["role"] == "system" { &["role", "content", "output_config"] } else { &["role", "content"] };
        let map = field::object(message, &path, known)?;
        let role = field::word(map, &path, "role", &["user", "assistant", "system"])?;
        let blocks = content(field::required(map, &path, "content")?, &path)?;
        if blocks.is_empty() && !(role == "assistant" && index + 1 == list.len()) {
            let words = "all messages must have non-empty content except for the optional final assistant message";
            return Err(ApiProblem::invalid(format!("{path}: {words}")));
        }
        for block in &blocks {
            check(block, role, version)?;
        }
        match messages.last_mut() {
            Some(last) if last.role == role => last.blocks.extend(blocks),
            _ => messages.push(CombinedMessage { role, index, blocks }),
        }
    }
    if messages.first().is_some_and(|first| first.role != "user") {
        return Err(ApiProblem::invalid("messages: first message must use the \"user\" role"));
    }
    pairs(&messages)?;
    Ok(messages)
}

/// Parses the content of a message into blocks. A text is the short form of one text block.
fn content<'a>(value: &'a Value, path: &str) -> Result<Vec<Block<'a>>, ApiProblem> {
    match value {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => {
            let value = Cow::Owned(json!({ "type": "text", "text": text }));
            Ok(vec![Block { path: format!("{path}.content"), kind: "text".into(), value }])
        }
        Value::Array(items) => {
            let block = |(at, item): (usize, &'a Value)| {
                let path = format!("{path}.content.{at}");
                let map = item.as_object().ok_or_else(|| ApiProblem::invalid(format!("{path}: Input should be a valid dictionary")))?;
                let kind = field::text(map, &path, "type")?.to_owned();
                Ok(Block { path, kind, value: Cow::Borrowed(item) })
            };
            items.iter().enumerate().map(block).collect()
        }
        _ => Err(ApiProblem::invalid(format!("{path}.content: Input should be a valid string or list"))),
    }
}

/// Checks a single block of a message with this role.
fn check(block: &Block<'_>, role: &str, version: ApiVersion) -> Result<(), ApiProblem> {
    let (path, kind) = (&block.path, block.kind.as_str());
    let Some(map) = block.value.as_object() else { return Ok(()) };
    let roles: &[&str] = match kind {
        "text" => &["user", "assistant", "system"],
        "document" if version == ApiVersion::V2023 => &["user", "assistant"],
        "image" | "document" | "search_result" | "tool_result" | "container_upload" => &["user"],
        "thinking" | "redacted_thinking" | "tool_use" | "server_tool_use" | "fallback" => &["assistant"],
        // These blocks are results of the server's own tools.
        _ if kind.ends_with("_tool_result") => &["assistant"],
        _ => {
            let words = "Input tag found using 'type' does not match any of the expected tags";
            return Err(ApiProblem::invalid(format!("{path}: {words}: '{kind}'")));
        }
    };
    if !roles.contains(&role) {
        return Err(ApiProblem::invalid(format!("{path}: `{kind}` blocks are not permitted in `{role}` messages")));
    }
    match kind {
        "text" => {
            field::only(map, path, &["type", "text", "cache_control", "citations"])?;
            spoken(field::text(map, path, "text")?)?;
            let cites = map.get("citations").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
            if cites && role == "user" && version != ApiVersion::V2023 {
                return Err(ApiProblem::invalid(format!("{path}.citations: citations are not permitted on user text blocks")));
            }
        }
        "thinking" => {
            field::only(map, path, &["type", "thinking", "signature"])?;
            field::text(map, path, "thinking")?;
            field::text(map, path, "signature")?;
        }
        "redacted_thinking" => {
            field::only(map, path, &["type", "data"])?;
            field::text(map, path, "data")?;
        }
        "tool_use" => {
            field::only(map, path, &["type", "id", "name", "input", "caller", "cache_control", "toolset_name"])?;
            field::text(map, path, "name")?;
            let id = field::text(map, path, "id")?;
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
                return Err(ApiProblem::invalid(format!("{path}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")));
            }
            if !field::required(map, path, "input")?.is_object() {
                return Err(ApiProblem::invalid(format!("{path}.input: Input should be a valid dictionary")));
            }
        }
        "tool_result" => result(map, path)?,
        _ => (),
    }
    Ok(())
}

fn spoken(text: &str) -> Result<(), ApiProblem> {
    if text.is_empty() {
        return Err(ApiProblem::invalid("messages: text content blocks must be non-empty"));
    }
    if text.trim().is_empty() {
        return Err(ApiProblem::invalid("messages: text content blocks must contain non-whitespace text"));
    }
    Ok(())
}

fn result(map: &Object, path: &str) -> Result<(), ApiProblem> {
    field::only(map, path, &["type", "tool_use_id", "content", "is_error", "cache_control"])?;
    field::text(map, path, "tool_use_id")?;
    if map.get("is_error").is_some_and(|error| !error.is_boolean() && !error.is_null()) {
        return Err(ApiProblem::invalid(format!("{path}.is_error: Input should be a valid boolean")));
    }
    let Some(inner) = map.get("content").filter(|content| !content.is_null()) else { return Ok(()) };
    for block in content(inner, path)? {
        match block.kind.as_str() {
            "text" => {
                let text = block.value.as_object().map_or(Ok(""), |map| field::text(map, &block.path, "text"))?;
                spoken(text)?;
            }
            "image" | "document" | "search_result" | "tool_reference" => (),
            kind => return Err(ApiProblem::invalid(format!("{}: `{kind}` blocks are not permitted in a `tool_result`", block.path))),
        }
    }
    Ok(())
}

fn ids<'a>(message: &'a CombinedMessage<'_>, kind: &str, key: &str) -> Vec<(&'a str, &'a str)> {
    let of_kind = message.blocks.iter().filter(|block| block.kind == kind);
    of_kind.filter_map(|block| Some((block.path.as_str(), block.value.get(key)?.as_str()?))).collect()
}

/// Checks that each tool call has its result at the beginning of the next message, and that each result belongs to a call.
fn pairs(messages: &[CombinedMessage<'_>]) -> Result<(), ApiProblem> {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for (at, message) in messages.iter().enumerate() {
        let calls = ids(message, "tool_use", "id");
        if calls.iter().any(|(_, id)| !known.insert(id)) {
            return Err(ApiProblem::invalid("messages: `tool_use` ids must be unique"));
        }
        let next = messages.get(at + 1).filter(|next| next.role == "user");
        let results = next.map(|next| ids(next, "tool_result", "tool_use_id")).unwrap_or_default();
        let missing: Vec<&str> = calls.iter().map(|(_, id)| *id).filter(|id| !results.iter().any(|(_, of)| of == id)).collect();
        if !missing.is_empty() {
            return Err(ApiProblem::invalid(format!(
                "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block \
                 must have a corresponding `tool_result` block in the next message.",
                message.index,
                missing.join(", ")
            )));
        }
        let before = if at == 0 { Vec::new() } else { ids(&messages[at - 1], "tool_use", "id") };
        let mut answered = BTreeSet::new();
        for (path, id) in ids(message, "tool_result", "tool_use_id") {
            if !before.iter().any(|(_, of)| *of == id) {
                return Err(ApiProblem::invalid(format!(
                    "{path}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a \
                     corresponding `tool_use` block in the previous message."
                )));
            }
            if !answered.insert(id) {
                let words = format!("each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}");
                return Err(ApiProblem::invalid(format!("{path}: {words}")));
            }
        }
        let first_other = message.blocks.iter().position(|block| block.kind != "tool_result").unwrap_or(message.blocks.len());
        if let Some(late) = message.blocks[first_other..].iter().find(|block| block.kind == "tool_result") {
            return Err(ApiProblem::invalid(format!("{}: `tool_result` blocks must come before all other content", late.path)));
        }
    }
    Ok(())
}
