//! Requests of an agent to a model endpoint, classified by method, path and headers.

use hyper::Method;
use hyper::header::HeaderMap;
use serde_json::Value;

use chaosrun_scenario::model::Wire;

/// API of a model server that generates answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelApi {
    /// The Messages API, `POST /v1/messages`.
    Messages,
    /// The chat completions API, `POST /v1/chat/completions`.
    Completions,
    /// The Responses API, `POST /v1/responses`.
    Responses,
}

impl ModelApi {
    pub const fn wire(self) -> Wire {
        match self {
            Self::Messages => Wire::Anthropic,
            Self::Completions | Self::Responses => Wire::Openai,
        }
    }

    /// Returns the messages in the body of a request, the newest last. A plain text counts as one message.
    pub fn said(self, body: &Value) -> &[Value] {
        let said = match self {
            Self::Messages | Self::Completions => &body["messages"],
            Self::Responses => &body["input"],
        };
        match said {
            Value::Array(list) => list,
            Value::Null => &[],
            text => std::slice::from_ref(text),
        }
    }

    /// Returns the maximum total length, in tokens, of the answers that a request asks for. Returns `None` if the request sets no limit.
    pub fn longest(self, body: &Value) -> Option<u64> {
        let names: &[&str] = match self {
            Self::Messages => &["max_tokens"],
            Self::Completions => &["max_completion_tokens", "max_tokens"],
            Self::Responses => &["max_output_tokens"],
        };
        let answers = body["n"].as_u64().unwrap_or(1).max(1);
        names.iter().find_map(|name| body[*name].as_u64()).map(|longest| longest.saturating_mul(answers))
    }
}

/// Prefixes of the types of tools that a model's server runs itself. Most of these tools use the network.
const OF_SERVERS: [&str; 7] = ["web_search", "web_fetch", "mcp", "code_execution", "code_interpreter", "file_search", "image_generation"];

/// Returns the name of the part of a request that lets the model's server use the network, such as a web search. Neither the proxy nor the
/// price list covers such traffic.
pub(super) fn reaches_out(body: &Value) -> Option<String> {
    let filled = |name: &str| body.get(name).is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|all| !all.is_empty()));
    let of_server = |tool: &Value| {
        let kind = tool["type"].as_str()?;
        // The tool then uses OpenAI's own index and sends no external request.
        let indexed = tool["external_web_access"] == Value::Bool(false);
        (!indexed && OF_SERVERS.iter().any(|beginning| kind.starts_with(beginning))).then(|| kind.to_owned())
    };
    let tools = body["tools"].as_array().into_iter().flatten().find_map(of_server);
    tools.or_else(|| ["mcp_servers", "web_search_options"].into_iter().find(|name| filled(name)).map(str::to_owned))
}

/// Kind of a request from the agent to a model endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EndpointRequest {
    /// Request for an answer of a model.
    Answer(ModelApi),
    /// Request for the length of a prompt in tokens. Such a request costs nothing.
    Length,
    Known(Wire),
    Nothing(Wire),
}

impl EndpointRequest {
    pub fn of(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        // Both wires use this path, but only one sends a version header.
        let wire = if headers.contains_key("anthropic-version") { Wire::Anthropic } else { Wire::Openai };
        match (method, path) {
            (&Method::POST, "/v1/messages") => Self::Answer(ModelApi::Messages),
            (&Method::POST, "/v1/messages/count_tokens") => Self::Length,
            (&Method::POST, "/v1/chat/completions") => Self::Answer(ModelApi::Completions),
            (&Method::POST, "/v1/responses") => Self::Answer(ModelApi::Responses),
            (&Method::GET, "/v1/models") => Self::Known(wire),
            (_, path) if path.starts_with("/v1/messages") => Self::Nothing(Wire::Anthropic),
            _ => Self::Nothing(wire),
        }
    }
}

/// Method, path and kind of a request from the agent.
pub(super) struct RequestTarget<'a> {
    pub api: ModelApi,
    /// Path of the request, including the query string.
    pub path: &'a str,
    /// True if the request asks for the length of a prompt, false if it asks for an answer.
    pub length: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn server_side_tools_are_recognised_by_type_prefix() {
        for (body, found) in [
            (json!({ "tools": [{ "name": "web_search", "input_schema": {} }, { "type": "bash_20250124", "name": "bash" }] }), None),
            (json!({ "tools": [{ "type": "function", "name": "f" }], "mcp_servers": [] }), None),
            (json!({ "tools": [{ "type": "web_search", "external_web_access": false }] }), None),
            (json!({ "tools": [{ "type": "web_search", "external_web_access": true }] }), Some("web_search")),
            (json!({ "tools": [{ "type": "custom", "name": "a" }, { "type": "web_fetch_20250910" }] }), Some("web_fetch_20250910")),
            (json!({ "mcp_servers": [{ "url": "https://example.com" }] }), Some("mcp_servers")),
            (json!({ "web_search_options": {} }), Some("web_search_options")),
        ] {
            assert_eq!(reaches_out(&body).as_deref(), found, "{body}");
        }
    }

    #[test]
    fn longest_answer_is_multiplied_by_number_of_answers() {
        let longest = |body: Value| ModelApi::Completions.longest(&body);
        assert_eq!(longest(json!({ "max_tokens": 7 })), Some(7));
        assert_eq!(longest(json!({ "max_tokens": 7, "n": 3 })), Some(21));
        assert_eq!(longest(json!({ "n": 3 })), None);
    }
}
