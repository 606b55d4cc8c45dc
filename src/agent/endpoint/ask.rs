//! What is asked for: by method, path and headers.

use hyper::Method;
use hyper::header::HeaderMap;
use serde_json::Value;

use crate::scenario::model::Wire;

/// What of a server is asked for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/chat/completions`
    Completions,
    /// `POST /v1/responses`
    Responses,
}

impl Api {
    pub const fn wire(self) -> Wire {
        match self {
            Self::Messages => Wire::Anthropic,
            Self::Completions | Self::Responses => Wire::Openai,
        }
    }

    /// What was said so far, the last of it the newest. A text alone is one.
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

    /// The longest answer that the request allows, in tokens, or all of them where it asks for several; none where it names no limit.
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

/// Types of tools that a model's server carries out itself, by how they begin: most of them go to the network.
const OF_SERVERS: [&str; 7] = ["web_search", "web_fetch", "mcp", "code_execution", "code_interpreter", "file_search", "image_generation"];

/// What of a request would reach beyond the sandbox: it is the server that would go there, so no proxy sees it, and no price list knows it.
pub(super) fn reaches_out(body: &Value) -> Option<String> {
    let filled = |name: &str| body.get(name).is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|all| !all.is_empty()));
    let of_server = |tool: &Value| {
        let kind = tool["type"].as_str()?;
        // OpenAI's own index, and no request to anybody.
        let indexed = tool["external_web_access"] == Value::Bool(false);
        (!indexed && OF_SERVERS.iter().any(|beginning| kind.starts_with(beginning))).then(|| kind.to_owned())
    };
    let tools = body["tools"].as_array().into_iter().flatten().find_map(of_server);
    tools.or_else(|| ["mcp_servers", "web_search_options"].into_iter().find(|name| filled(name)).map(str::to_owned))
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// An answer of a model.
    Answer(Api),
    /// How long a prompt would be: nothing is paid for that.
    Length,
    Known(Wire),
    Nothing(Wire),
}

impl Asked {
    pub fn of(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        // One path serves both; only one of them says its version.
        let wire = if headers.contains_key("anthropic-version") { Wire::Anthropic } else { Wire::Openai };
        match (method, path) {
            (&Method::POST, "/v1/messages") => Self::Answer(Api::Messages),
            (&Method::POST, "/v1/messages/count_tokens") => Self::Length,
            (&Method::POST, "/v1/chat/completions") => Self::Answer(Api::Completions),
            (&Method::POST, "/v1/responses") => Self::Answer(Api::Responses),
            (&Method::GET, "/v1/models") => Self::Known(wire),
            (_, path) if path.starts_with("/v1/messages") => Self::Nothing(Wire::Anthropic),
            _ => Self::Nothing(wire),
        }
    }
}

/// A request of the agent's.
pub(super) struct Target<'a> {
    pub api: Api,
    /// With what follows a `?`.
    pub path: &'a str,
    /// No answer is asked for, but how long the prompt is.
    pub length: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_server_would_do_itself_is_known_by_its_name() {
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
    fn several_answers_may_be_as_long_together() {
        let longest = |body: Value| Api::Completions.longest(&body);
        assert_eq!(longest(json!({ "max_tokens": 7 })), Some(7));
        assert_eq!(longest(json!({ "max_tokens": 7, "n": 3 })), Some(21));
        assert_eq!(longest(json!({ "n": 3 })), None);
    }
}
