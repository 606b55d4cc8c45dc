//! Parser and checks of a request to the Responses API.

use serde_json::{Map, Value};

use super::input;
use super::tools::{self, Offered};
use crate::openai::request::{LEAST_CACHED, invalid_value, missing, reasons, wrong_type};
use crate::problem::ApiProblem;
use crate::seen::{RequestParts, tokens};
use crate::turn::Script;

/// Valid request to the Responses API.
#[derive(Debug)]
pub struct ResponsesRequest {
    pub seen: RequestParts,
    /// Digest of the request body.
    pub request: blake3::Hash,
    pub tools: Vec<Offered>,
    /// True if the answer contains a summary of the model's reasoning.
    pub summarises: bool,
    /// True if the answer contains the reasoning in encrypted form, which the client sends back later.
    pub encrypts: bool,
    /// Parameters of the request that the answer repeats.
    pub given: Map<String, Value>,
}

const FIELDS: &[&str] = &[
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_output_tokens",
    "max_tool_calls",
    "reasoning",
    "text",
    "include",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "top_logprobs",
    "truncation",
    "metadata",
    "client_metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "background",
    "conversation",
    "context_management",
    "moderation",
    "previous_response_id",
    "prompt",
];
/// Smallest accepted limit of output tokens.
const LEAST_OUTPUT: u64 = 16;

/// Checks a request with the rules of the real server, and returns the parsed request.
///
/// # Errors
/// Returns the error for the client if the request is invalid.
pub fn check(body: &Value, script: &Script) -> Result<ResponsesRequest, ApiProblem> {
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
    kept(map)?;
    options(map, model)?;
    let Some(given) = map.get("input").filter(|input| !input.is_null()) else {
        let words = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided.";
        return Err(ApiProblem::invalid(words).param("input").code("missing_required_parameter"));
    };
    let mut offered = tools::read(map.get("tools").unwrap_or(&Value::Null), "tools")?;
    let input::ParsedInput { seen: said, tools: more, .. } = input::read(given)?;
    offered.extend(more);
    choice(map, &offered)?;
    let size: usize = ["instructions", "tools", "input"].iter().filter_map(|key| map.get(*key)).map(|value| value.to_string().len()).sum();
    let prompt = tokens(size);
    if prompt > script.context {
        let words = "Your input exceeds the context window of this model. Please adjust your input and try again.";
        return Err(ApiProblem::invalid(words).param("input").code("context_length_exceeded"));
    }
    let instructions = map.get("instructions").and_then(Value::as_str).unwrap_or_default();
    let system = [instructions, &said.system].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    let seen = RequestParts {
        model: model.to_owned(),
        system,
        tools: offered.iter().map(|tool| tool.name.clone()).collect(),
        prompt,
        caches: prompt >= LEAST_CACHED,
        stream: map.get("stream").and_then(Value::as_bool).unwrap_or(false),
        ..said
    };
    let includes = |word: &str| map.get("include").and_then(Value::as_array).is_some_and(|list| list.iter().any(|one| one == word));
    Ok(ResponsesRequest {
        seen,
        request: blake3::hash(format!("{model}\n{given}").as_bytes()),
        tools: offered,
        summarises: map.get("reasoning").is_some_and(|reasoning| reasoning["summary"].is_string()),
        encrypts: includes("reasoning.encrypted_content"),
        given: map.clone(),
    })
}

/// Refuses parameters that need stored conversations, since the server stores nothing.
fn kept(map: &Map<String, Value>) -> Result<(), ApiProblem> {
    let given = |key: &str| map.get(key).filter(|value| !value.is_null() && **value != false);
    if let Some(id) = given("previous_response_id") {
        let words = format!("Previous response with id '{}' not found.", id.as_str().unwrap_or_default());
        return Err(ApiProblem::invalid(words).param("previous_response_id").code("previous_response_not_found"));
    }
    match ["background", "conversation", "prompt"].into_iter().find(|key| given(key).is_some()) {
        Some(key) => Err(ApiProblem::invalid(format!("fake model: it keeps nothing, so there is no '{key}'.")).param(key)),
        None => Ok(()),
    }
}

fn options(map: &Map<String, Value>, model: &str) -> Result<(), ApiProblem> {
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    for key in ["stream", "parallel_tool_calls", "store"] {
        if let Some(value) = given(key).filter(|value| !value.is_boolean()) {
            return Err(wrong_type(key, "a boolean", value));
        }
    }
    for key in ["instructions", "prompt_cache_key"] {
        if let Some(value) = given(key).filter(|value| !value.is_string()) {
            return Err(wrong_type(key, "a string", value));
        }
    }
    if let Some(value) = given("max_output_tokens") {
        let most = value.as_u64().ok_or_else(|| wrong_type("max_output_tokens", "an integer", value))?;
        if most < LEAST_OUTPUT {
            let words = format!(
                "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {LEAST_OUTPUT}, but got {most} instead."
            );
            return Err(ApiProblem::invalid(words).param("max_output_tokens").code("integer_below_min_value"));
        }
    }
    if let Some(key) = ["temperature", "top_p"].into_iter().find(|key| reasons(model) && given(key).is_some()) {
        let words = format!("Unsupported parameter: '{key}' is not supported with this model.");
        return Err(ApiProblem::invalid(words).param(key));
    }
    Ok(())
}

fn choice(map: &Map<String, Value>, offered: &[Offered]) -> Result<(), ApiProblem> {
    let Some(choice) = map.get("tool_choice").filter(|choice| !choice.is_null()) else { return Ok(()) };
    match (choice.as_str(), choice["name"].as_str()) {
        (Some("auto" | "none"), _) => Ok(()),
        (Some("required"), _) if !offered.is_empty() || map.get("tools").is_some() => Ok(()),
        (Some("required"), _) => Err(invalid_value("tool_choice", "Tool choice 'required' must be specified with 'tools' parameter.")),
        (Some(other), _) => {
            let words = format!("Invalid value: '{other}'. Supported values are: 'none', 'auto', and 'required'.");
            Err(invalid_value("tool_choice", words))
        }
        (None, Some(name)) if !offered.iter().any(|tool| tool.name == name) => {
            Err(invalid_value("tool_choice", format!("Tool choice '{name}' not found in 'tools' parameter.")))
        }
        (None, _) => Ok(()),
    }
}
