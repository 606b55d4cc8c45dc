//! Tools that a request declares, at any position in the request.

use serde_json::Value;

use crate::openai::request::{invalid_value, missing, named, wrong_type};
use crate::problem::ApiProblem;

/// Tool that the client executes, as declared in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub name: String,
    pub namespace: Option<String>,
    /// True if the tool takes plain text instead of JSON arguments.
    pub freeform: bool,
}

impl Offered {
    /// Returns true if the name in a script refers to this tool. The name may include the namespace of the tool.
    pub fn is(&self, name: &str) -> bool {
        let qualified = |space: &String| name.strip_prefix(space.as_str()).and_then(|rest| rest.strip_prefix('.')) == Some(&self.name);
        self.name == name || self.namespace.as_ref().is_some_and(qualified)
    }
}

/// Types of tools that the server itself would execute. The fake model never calls these tools.
const OF_THE_SERVER: [&str; 12] = [
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "shell",
    "tool_search",
    "web_search",
    "web_search_preview",
];

/// Checks a list of tools, and returns the tools that the client executes.
///
/// # Errors
/// Returns the error for the client if a tool is invalid.
pub fn read(value: &Value, path: &str) -> Result<Vec<Offered>, ApiProblem> {
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        other => return Err(wrong_type(path, "an array of objects", other)),
    };
    let mut offered = Vec::new();
    for (at, tool) in list.iter().enumerate() {
        one(tool, &format!("{path}[{at}]"), None, &mut offered)?;
    }
    Ok(offered)
}

fn one(tool: &Value, path: &str, namespace: Option<&str>, offered: &mut Vec<Offered>) -> Result<(), ApiProblem> {
    let kind = tool.get("type").ok_or_else(|| missing(&format!("{path}.type")))?.as_str().unwrap_or_default();
    if namespace.is_none() && OF_THE_SERVER.contains(&kind) {
        return Ok(());
    }
    let name = || {
        let name = tool.get("name").ok_or_else(|| missing(&format!("{path}.name")))?;
        name.as_str().ok_or_else(|| wrong_type(&format!("{path}.name"), "a string", name))
    };
    match kind {
        "function" | "custom" => {
            let name = name()?;
            named(name, &format!("{path}.name"))?;
            if let Some(parameters) = tool.get("parameters").filter(|parameters| !parameters.is_null() && parameters["type"] != "object") {
                let words =
                    format!("Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', got {parameters}.");
                return Err(ApiProblem::invalid(words).param(format!("{path}.parameters")).code("invalid_function_parameters"));
            }
            offered.push(Offered { name: name.into(), namespace: namespace.map(Into::into), freeform: kind == "custom" });
            Ok(())
        }
        "namespace" if namespace.is_none() => {
            let name = name()?;
            named(name, &format!("{path}.name"))?;
            let inner = tool["tools"].as_array().ok_or_else(|| missing(&format!("{path}.tools")))?;
            inner.iter().enumerate().try_for_each(|(at, tool)| one(tool, &format!("{path}.tools[{at}]"), Some(name), offered))
        }
        other => {
            let words =
                format!("Invalid value: '{other}'. Supported values are: 'function', 'custom', 'namespace', and the server's own tools.");
            Err(invalid_value(&format!("{path}.type"), words))
        }
    }
}
