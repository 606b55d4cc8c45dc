//! Parser and checks of a request for a chat completion.

use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::messages;
use crate::problem::ApiProblem;
use crate::seen::{RequestParts, tokens};
use crate::turn::Script;

/// Valid request for a chat completion.
#[derive(Debug)]
pub struct ChatRequest {
    pub seen: RequestParts,
    /// Digest of the request body.
    pub request: blake3::Hash,
    /// True if the stream ends with a chunk that contains the token usage.
    pub include_usage: bool,
}

const FIELDS: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "reasoning_effort",
    "response_format",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "store",
    "metadata",
    "user",
    "safety_identifier",
    "n",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
    "verbosity",
    "modalities",
    "audio",
    "prediction",
    "moderation",
    "web_search_options",
];
/// Smallest number of tokens in a prompt that the server caches.
pub(crate) const LEAST_CACHED: u64 = 1024;

pub fn missing(parameter: &str) -> ApiProblem {
    ApiProblem::invalid(format!("Missing required parameter: '{parameter}'.")).param(parameter).code("missing_required_parameter")
}

pub fn wrong_type(parameter: &str, expected: &str, found: &Value) -> ApiProblem {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let words = format!("Invalid type for '{parameter}': expected {expected}, but got {found} instead.");
    ApiProblem::invalid(words).param(parameter).code("invalid_type")
}

pub fn invalid_value(parameter: &str, words: impl Into<String>) -> ApiProblem {
    ApiProblem::invalid(words).param(parameter).code("invalid_value")
}

/// Checks the API key in the request headers.
///
/// # Errors
/// Returns the error for the client if the key is missing or wrong.
pub fn authenticate(headers: &HeaderMap, key: Option<&str>) -> Result<(), ApiProblem> {
    let given = headers.get("authorization").map(|value| value.to_str().unwrap_or_default());
    match (key, given.map(|value| value.strip_prefix("Bearer ").unwrap_or_default())) {
        (None, _) => Ok(()),
        (Some(key), Some(given)) if given == key => Ok(()),
        (Some(_), Some(_)) => Err(ApiProblem::new(401, "Incorrect API key provided.").code("invalid_api_key")),
        (Some(_), None) => {
            let words = "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth.";
            Err(ApiProblem::new(401, words))
        }
    }
}

/// Checks a request with the rules of the real server, and returns the parsed request.
///
/// # Errors
/// Returns the error for the client if the request is invalid.
pub fn check(body: &Value, script: &Script) -> Result<ChatRequest, ApiProblem> {
    let map = body.as_object().ok_or_else(|| wrong_type("body", "an object", body))?;
    if let Some(unknown) = map.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(ApiProblem::invalid(format!("Unknown parameter: '{unknown}'.")).param(unknown).code("unknown_parameter"));
    }
    let model = map.get("model").ok_or_else(|| missing("model"))?;
    let model = model.as_str().ok_or_else(|| wrong_type("model", "a string", model))?;
    if !script.models.is_empty() && !script.models.iter().any(|known| known == model) {
        let words = format!("The model `{model}` does not exist or you do not have access to it.");
        return Err(ApiProblem::new(404, words).code("model_not_found"));
    }
    let list = map.get("messages").ok_or_else(|| missing("messages"))?;
    let list = list.as_array().ok_or_else(|| wrong_type("messages", "an array of objects", list))?;
    let tools = tools(map)?;
    options(map, model)?;
    let said = messages::read(list)?;
    let size: usize = ["tools", "messages"].iter().filter_map(|key| map.get(*key)).map(|value| value.to_string().len()).sum();
    let prompt = tokens(size);
    if prompt > script.context {
        let words = format!(
            "This model's maximum context length is {} tokens. However, your messages resulted in {prompt} tokens. Please reduce the \
             length of the messages.",
            script.context
        );
        return Err(ApiProblem::invalid(words).param("messages").code("context_length_exceeded"));
    }
    let stream = map.get("stream").and_then(Value::as_bool).unwrap_or(false);
    let include_usage = map.get("stream_options").is_some_and(|options| options["include_usage"] == true);
    let caches = prompt >= LEAST_CACHED;
    let seen = RequestParts { model: model.to_owned(), tools, prompt, caches, stream, ..said };
    let request = blake3::hash(format!("{model}\n{}", map["messages"]).as_bytes());
    Ok(ChatRequest { seen, request, include_usage })
}

/// Checks the tools of a request, and returns the names of the tools.
fn tools(map: &Map<String, Value>) -> Result<Vec<String>, ApiProblem> {
    let Some(value) = map.get("tools").filter(|value| !value.is_null()) else {
        for needs in ["tool_choice", "parallel_tool_calls"] {
            if map.get(needs).is_some_and(|value| !value.is_null() && *value != "none") {
                let words = format!("'{needs}' is only allowed when 'tools' are specified.");
                return Err(invalid_value(needs, words));
            }
        }
        return Ok(Vec::new());
    };
    let list = value.as_array().ok_or_else(|| wrong_type("tools", "an array of objects", value))?;
    if list.is_empty() {
        let words = "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.";
        return Err(ApiProblem::invalid(words).param("tools").code("empty_array"));
    }
    let mut names = Vec::new();
    for (at, tool) in list.iter().enumerate() {
        let path = format!("tools[{at}]");
        if tool["type"] != "function" {
            return Err(invalid_value(&format!("{path}.type"), format!("Invalid value for '{path}.type': expected 'function'.")));
        }
        let function = &tool["function"];
        let name = function.get("name").ok_or_else(|| missing(&format!("{path}.function.name")))?;
        let name = name.as_str().ok_or_else(|| wrong_type(&format!("{path}.function.name"), "a string", name))?;
        named(name, &format!("{path}.function.name"))?;
        if let Some(parameters) = function.get("parameters").filter(|parameters| parameters["type"] != "object") {
            let words =
                format!("Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', got {parameters}.");
            let problem = ApiProblem::invalid(words).param(format!("{path}.function.parameters"));
            return Err(problem.code("invalid_function_parameters"));
        }
        names.push(name.to_owned());
    }
    if let Some(chosen) = map.get("tool_choice").and_then(|choice| choice["function"]["name"].as_str())
        && !names.iter().any(|name| name == chosen)
    {
        let words = format!("Invalid value for 'tool_choice': function '{chosen}' was not found in 'tools'.");
        return Err(invalid_value("tool_choice", words));
    }
    Ok(names)
}

/// Checks the name of a function or tool: its length, and that it contains only plain characters.
pub fn named(name: &str, path: &str) -> Result<(), ApiProblem> {
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        return Ok(());
    }
    let words =
        format!("Invalid '{path}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]{{1,64}}$'.");
    Err(invalid_value(path, words))
}

fn options(map: &Map<String, Value>, model: &str) -> Result<(), ApiProblem> {
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    for key in ["stream", "parallel_tool_calls", "store"] {
        if let Some(value) = given(key).filter(|value| !value.is_boolean()) {
            return Err(wrong_type(key, "a boolean", value));
        }
    }
    for key in ["max_tokens", "max_completion_tokens", "seed", "n"] {
        if let Some(value) = given(key).filter(|value| !value.is_i64() && !value.is_u64()) {
            return Err(wrong_type(key, "an integer", value));
        }
        if key != "seed" && given(key).is_some_and(|value| value.as_u64() == Some(0) || value.as_i64().is_some_and(|value| value < 0)) {
            let words = format!("Invalid '{key}': integer below minimum value. Expected a value >= 1.");
            return Err(ApiProblem::invalid(words).param(key).code("integer_below_min_value"));
        }
    }
    if given("stream_options").is_some() && given("stream") != Some(&Value::Bool(true)) {
        let words = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(ApiProblem::invalid(words).param("stream_options"));
    }
    if given("max_tokens").is_some() && given("max_completion_tokens").is_some() {
        let words = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
        return Err(ApiProblem::invalid(words).code("invalid_parameter_combination"));
    }
    if !reasons(model) {
        return Ok(());
    }
    if given("max_tokens").is_some() {
        let words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        return Err(ApiProblem::invalid(words).param("max_tokens").code("unsupported_parameter"));
    }
    for key in ["temperature", "top_p"] {
        if let Some(value) = given(key).filter(|value| value.as_f64() != Some(1.0)) {
            let words =
                format!("Unsupported value: '{key}' does not support {value} with this model. Only the default (1) value is supported.");
            return Err(ApiProblem::invalid(words).param(key).code("unsupported_value"));
        }
    }
    Ok(())
}

/// Returns true if the model is a reasoning model of OpenAI. Models of other providers accept all parameters.
pub fn reasons(model: &str) -> bool {
    ["gpt-5", "gpt-6", "o1", "o3", "o4"].iter().any(|family| model.starts_with(family))
}
