//! Parser and checks of a request to the Messages API.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::binding::Prefix;
use super::blocks::{self, CombinedMessage};
use super::field::{self, Object};
use super::models;
use crate::problem::ApiProblem;
use crate::seen::{RequestParts, tokens};
use crate::turn::Script;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiVersion {
    V2023,
    V2026,
}

/// Valid request to the Messages API.
#[derive(Debug)]
pub struct MessagesRequest {
    pub seen: RequestParts,
    /// Digest of the conversation before the answer.
    pub prefix: Prefix,
    pub thinking: ThinkingDisplay,
    /// Reports about thinking blocks that the server has dropped, because their signatures do not match the conversation before them.
    pub transformations: Vec<Value>,
}

/// Visibility of the model's thinking in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinkingDisplay {
    Off,
    Omitted,
    Shown,
}

const FIELDS: &[&str] = &[
    "model",
    "max_tokens",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "stop_sequences",
    "stream",
    "metadata",
    "cache_control",
    "diagnostics",
    "service_tier",
    "speed",
    "inference_geo",
    "container",
];
const BETA_FIELDS: &[&str] = &["context_management", "compaction", "fallbacks", "thread", "mcp_servers"];
const SAMPLING: &[&str] = &["temperature", "top_p", "top_k"];
/// Largest number of output tokens that current models accept as a limit.
const MOST_OUTPUT: u64 = 128_000;
const MOST_BREAKPOINTS: usize = 4;
const BINDING_BETA: &str = "thinking-binding-controls-2026-08-01";
const PER_TURN_BETA: &str = "per-turn-control-2026-07-01";

/// Parses the API version in the request headers.
///
/// # Errors
/// Returns the error for the client if the version is missing or unknown.
pub fn version(headers: &HeaderMap) -> Result<ApiVersion, ApiProblem> {
    match headers.get("anthropic-version").map(|value| value.to_str().unwrap_or_default()) {
        Some("2026-10-21") => Ok(ApiVersion::V2026),
        Some("2023-06-01") => Ok(ApiVersion::V2023),
        Some(other) => Err(ApiProblem::invalid(format!("anthropic-version: \"{other}\" is not a valid version"))),
        None => Err(ApiProblem::invalid("anthropic-version: header is required")),
    }
}

/// Checks the API key. A request contains the key in one of two headers, never in both.
///
/// # Errors
/// Returns the error for the client if the key is missing or wrong, or if both headers are present.
pub fn authenticate(headers: &HeaderMap, key: Option<&str>) -> Result<(), ApiProblem> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let bearer = text("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or_default());
    match (key, text("x-api-key"), bearer) {
        (_, Some(_), Some(_)) => Err(ApiProblem::new(401, "only one of x-api-key and Authorization may be set")),
        (None, _, _) => Ok(()),
        (Some(_), None, None) => Err(ApiProblem::new(401, "x-api-key header is required")),
        (Some(key), Some(given), _) if given == key => Ok(()),
        (Some(key), _, Some(given)) if given == key => Ok(()),
        (Some(_), Some(_), _) => Err(ApiProblem::new(401, "invalid x-api-key")),
        (Some(_), _, Some(_)) => Err(ApiProblem::new(401, "invalid bearer token")),
    }
}

/// Checks a request with the rules of the real server, and returns the parsed request.
///
/// # Errors
/// Returns the error for the client if the request is invalid.
pub fn check(body: &Value, headers: &HeaderMap, script: &Script, counting: bool) -> Result<MessagesRequest, ApiProblem> {
    let version = version(headers)?;
    let betas: Vec<&str> = headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok()).collect();
    let map = body.as_object().ok_or_else(|| ApiProblem::invalid("Input should be a valid dictionary"))?;
    let mut known = FIELDS.to_vec();
    if version == ApiVersion::V2023 {
        known.extend(SAMPLING);
    }
    if !betas.is_empty() {
        known.extend(BETA_FIELDS);
    }
    field::only(map, "", &known)?;
    let model = field::text(map, "", "model")?;
    if !counting {
        numbers(map, model)?;
    }
    let messages = field::required(map, "", "messages")?;
    if model.is_empty() {
        return Err(ApiProblem::invalid("model: String should have at least 1 character"));
    }
    if !script.models.is_empty() && !script.models.iter().any(|known| known == model) {
        return Err(ApiProblem::new(404, format!("model: {model}")));
    }
    if let Some(sampling) = SAMPLING.iter().find(|key| map.contains_key(**key))
        && models::refuses_sampling(model)
    {
        return Err(ApiProblem::invalid(format!("`{sampling}` is not supported by this model.")));
    }
    let beta = |name: &str| betas.iter().any(|beta| beta.split(',').any(|word| word.trim() == name));
    let messages = blocks::read(messages, version, beta(PER_TURN_BETA))?;
    let tools = tools(map.get("tools"))?;
    choice(map, model, &tools)?;
    let thinking = thinking(map, model)?;
    let system = map.get("system").unwrap_or(&Value::Null);
    let system_text = match system {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(blocks) => joined(blocks.iter().filter_map(|block| block["text"].as_str())),
        _ => return Err(ApiProblem::invalid("system: Input should be a valid string or list")),
    };
    let breakpoints = breakpoints(map.get("tools")) + breakpoints(Some(system)) + breakpoints(map.get("messages"));
    if breakpoints > MOST_BREAKPOINTS {
        let words = format!("A maximum of {MOST_BREAKPOINTS} blocks with cache_control may be provided. Found {breakpoints}.");
        return Err(ApiProblem::invalid(words));
    }

    let drops = beta(BINDING_BETA)
        && map.get("thinking").is_some_and(|thinking| thinking["block_binding"]["prefix_mismatch_behavior"] == "drop_block");
    let prefix = Prefix::new(model, map.get("tools").unwrap_or(&Value::Null), system);
    let (prefix, transformations) = bound(&messages, prefix, drops)?;

    let size: usize = ["system", "tools", "messages"].iter().filter_map(|key| map.get(*key)).map(|value| value.to_string().len()).sum();
    let prompt = tokens(size);
    if prompt > script.context {
        return Err(ApiProblem::invalid(format!("prompt is too long: {prompt} tokens > {} maximum", script.context)));
    }
    let seen = RequestParts {
        model: model.to_owned(),
        system: system_text,
        tools,
        prompt,
        caches: breakpoints > 0 || map.get("cache_control").is_some_and(|control| !control.is_null()),
        stream: map.get("stream").and_then(Value::as_bool).unwrap_or(false),
        warms: map.get("max_tokens").and_then(Value::as_u64) == Some(0),
        ..said(&messages)
    };
    Ok(MessagesRequest { seen, prefix, thinking, transformations })
}

fn numbers(map: &Object, model: &str) -> Result<(), ApiProblem> {
    let most = field::required(map, "", "max_tokens")?;
    let most =
        most.as_u64().ok_or_else(|| ApiProblem::invalid("max_tokens: Input should be a valid integer greater than or equal to 0"))?;
    if most > MOST_OUTPUT {
        let words = "which is the maximum allowed number of output tokens for";
        return Err(ApiProblem::invalid(format!("max_tokens: {most} > {MOST_OUTPUT}, {words} {model}")));
    }
    if map.get("stream").is_some_and(|stream| !stream.is_boolean() && !stream.is_null()) {
        return Err(ApiProblem::invalid("stream: Input should be a valid boolean"));
    }
    Ok(())
}

/// Checks the tools of a request, and returns the names of the tools.
fn tools(value: Option<&Value>) -> Result<Vec<String>, ApiProblem> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| ApiProblem::invalid("tools: Input should be a valid list"))?;
    let mut names: Vec<String> = Vec::new();
    for (at, tool) in list.iter().enumerate() {
        let path = format!("tools.{at}");
        let map = tool.as_object().ok_or_else(|| ApiProblem::invalid(format!("{path}: Input should be a valid dictionary")))?;
        let name = field::text(map, &path, "name")?;
        match map.get("type").and_then(Value::as_str) {
            None | Some("custom") => {
                let known = [
                    "name",
                    "description",
                    "input_schema",
                    "type",
                    "cache_control",
                    "strict",
                    "input_examples",
                    "eager_input_streaming",
                    "defer_loading",
                    "allowed_callers",
                ];
                field::only(map, &format!("{path}.custom"), &known)?;
                let schema = field::required(map, &format!("{path}.custom"), "input_schema")?;
                if schema["type"] != "object" {
                    return Err(ApiProblem::invalid(format!("{path}.custom.input_schema.type: Input should be 'object'")));
                }
            }
            Some(kind) => {
                if map.contains_key("input_schema") {
                    return Err(ApiProblem::invalid(format!("{path}.{kind}.input_schema: Extra inputs are not permitted")));
                }
            }
        }
        if name.is_empty() || name.len() > 128 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
            return Err(ApiProblem::invalid(format!("{path}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")));
        }
        if names.iter().any(|known| known == name) {
            return Err(ApiProblem::invalid("tools: Tool names must be unique."));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn choice(map: &Object, model: &str, tools: &[String]) -> Result<(), ApiProblem> {
    let Some(choice) = map.get("tool_choice").filter(|choice| !choice.is_null()) else { return Ok(()) };
    let choice = field::object(choice, "tool_choice", &["type", "name", "disable_parallel_tool_use"])?;
    let kind = field::word(choice, "tool_choice", "type", &["auto", "any", "tool", "none"])?;
    if tools.is_empty() && kind != "none" {
        return Err(ApiProblem::invalid("tool_choice may only be specified while providing tools"));
    }
    if kind == "tool" {
        let name = field::text(choice, "tool_choice", "name")?;
        if !tools.iter().any(|known| known == name) {
            return Err(ApiProblem::invalid(format!("Tool '{name}' not found in provided tools")));
        }
    }
    if matches!(kind, "any" | "tool") && models::refuses_forced_tools(model) {
        return Err(ApiProblem::invalid(format!("tool_choice: '{kind}' is not supported by this model.")));
    }
    Ok(())
}

fn thinking(map: &Object, model: &str) -> Result<ThinkingDisplay, ApiProblem> {
    let Some(thinking) = map.get("thinking").filter(|thinking| !thinking.is_null()) else {
        return Ok(if models::always_thinks(model) { ThinkingDisplay::Omitted } else { ThinkingDisplay::Off });
    };
    let thinking = field::object(thinking, "thinking", &["type", "budget_tokens", "display", "block_binding"])?;
    let kind = field::word(thinking, "thinking", "type", &["adaptive", "enabled", "disabled", "between_tools"])?;
    if kind == "enabled" {
        if models::refuses_budgets(model) {
            return Err(ApiProblem::invalid("thinking.type: 'enabled' is not supported by this model. Use 'adaptive'."));
        }
        let budget = field::required(thinking, "thinking.enabled", "budget_tokens")?.as_u64().unwrap_or(0);
        if budget < 1024 {
            return Err(ApiProblem::invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"));
        }
        if map.get("max_tokens").and_then(Value::as_u64).is_some_and(|most| budget >= most) {
            return Err(ApiProblem::invalid("`max_tokens` must be greater than `thinking.budget_tokens`."));
        }
    }
    if kind == "disabled" && models::always_thinks(model) {
        return Err(ApiProblem::invalid("thinking.type: 'disabled' is not supported by this model."));
    }
    let display = match thinking.get("display").filter(|display| !display.is_null()) {
        Some(_) => Some(field::word(thinking, "thinking", "display", &["summarized", "omitted"])?),
        None => None,
    };
    Ok(match (kind, display) {
        ("disabled", _) => ThinkingDisplay::Off,
        (_, Some("summarized")) | ("enabled", None) => ThinkingDisplay::Shown,
        _ => ThinkingDisplay::Omitted,
    })
}

fn breakpoints(value: Option<&Value>) -> usize {
    match value {
        Some(Value::Object(map)) => {
            let own = usize::from(map.get("cache_control").is_some_and(|control| !control.is_null()));
            let inner = map.iter().filter(|(key, _)| !matches!(key.as_str(), "input" | "input_schema"));
            own + inner.map(|(_, value)| breakpoints(Some(value))).sum::<usize>()
        }
        Some(Value::Array(items)) => items.iter().map(|item| breakpoints(Some(item))).sum(),
        _ => 0,
    }
}

/// Computes the digest of the conversation. Checks the signature of each thinking block against the digest of everything before the block.
fn bound(messages: &[CombinedMessage<'_>], mut prefix: Prefix, drops: bool) -> Result<(Prefix, Vec<Value>), ApiProblem> {
    let mut dropped = Vec::new();
    for message in messages {
        for block in &message.blocks {
            if block.kind == "thinking" {
                let thinking = block.value["thinking"].as_str().unwrap_or_default();
                if block.value["signature"] != prefix.sign(thinking).as_str() {
                    if !drops {
                        return Err(ApiProblem::invalid(format!(
                            "{}: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the \
                             block, or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\".",
                            block.path
                        )));
                    }
                    let reason = "prefix_mismatch";
                    dropped.push(json!({ "type": "thinking_dropped", "path": block.path, "reason": reason }));
                }
            }
            prefix.add(message.role, &block.value);
        }
    }
    Ok((prefix, dropped))
}

fn said(messages: &[CombinedMessage<'_>]) -> RequestParts {
    let text_of = |message: &CombinedMessage<'_>| joined(message.blocks.iter().flat_map(|block| texts(&block.value)));
    let user = || messages.iter().filter(|message| message.role == "user");
    let last_user = user().next_back();
    let results = last_user.into_iter().flat_map(|message| message.blocks.iter().filter(|block| block.kind == "tool_result"));
    let answer = messages.iter().rev().find(|message| message.role == "assistant");
    let calls = answer.into_iter().flat_map(|message| message.blocks.iter().filter(|block| block.kind == "tool_use"));
    RequestParts {
        first: user().next().map(text_of).unwrap_or_default(),
        last: last_user.map(text_of).unwrap_or_default(),
        results: results.map(|block| joined(texts(&block.value))).collect(),
        answers: messages.iter().filter(|message| message.role == "assistant").count(),
        called: calls.filter_map(|block| Some(block.value.get("id")?.as_str()?.to_owned())).collect(),
        continues: messages.last().is_some_and(|message| message.role == "assistant"),
        ..RequestParts::default()
    }
}

/// Returns the texts that a block contains.
fn texts(block: &Value) -> Vec<&str> {
    match (block["text"].as_str(), &block["content"]) {
        (Some(text), _) => vec![text],
        (None, Value::String(text)) => vec![text],
        (None, Value::Array(inner)) => inner.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().collect::<Vec<_>>().join("\n")
}
