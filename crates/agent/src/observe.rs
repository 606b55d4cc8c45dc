//! Tool `observe`, which returns the current observations of the monitor as JSON. Agents without a shell depend on this tool.

use serde_json::{Map, Value as Json, json};

use super::prompt;
use super::task::AgentTask;
use super::turn::ObserveRequest;
use chaosrun_expr::{Value, is_list, is_map, unknown_of};
use chaosrun_input::names;

/// Returns the tickets, the nodes and the selected observations as JSON text.
///
/// # Errors
/// A requested observation or node does not exist. The error names it.
pub(super) fn look(task: &AgentTask, asked: &ObserveRequest) -> Result<String, String> {
    let context = prompt::context(task, &[]);
    let named = |name: &str| context.get(name).map_or(Json::Null, |value| plain(&value));
    let mut seen = Map::new();
    for name in ["tickets", "healthy", "nodes"] {
        seen.insert(name.into(), named(name));
    }
    if asked.observations.is_empty() && asked.logs.is_empty() {
        seen.insert("observations".into(), named("observations"));
    }
    let observed = task.view.borrow().observe.clone();
    let known: Vec<String> = observed.try_iter().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    for name in &asked.observations {
        let value = observed.get_attr(name).ok().filter(|value| !value.is_undefined());
        let value = value.ok_or_else(|| missing("observation", name, &known))?;
        seen.insert(name.clone(), plain(&value));
    }
    let nodes: Vec<String> = task.cluster.topology().nodes.iter().map(|node| node.name.clone()).collect();
    let mut logs = Map::new();
    for node in &asked.logs {
        if !nodes.contains(node) {
            return Err(missing("node", node, &nodes));
        }
        let lines = task.cluster.log_file(node).and_then(|path| prompt::last_lines(&path)).unwrap_or_default();
        logs.insert(node.clone(), lines.iter().map(plain).collect());
    }
    if !logs.is_empty() {
        seen.insert("logs".into(), Json::Object(logs));
    }
    serde_json::to_string_pretty(&Json::Object(seen)).map_err(|error| error.to_string())
}

fn missing(what: &str, name: &str, known: &[String]) -> String {
    let known = || known.iter().map(String::as_str);
    let near = names::closest(name, known()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("unknown {what} `{name}`, expected {}{near}", names::listed(known()))
}

/// Converts an expression value to JSON. An unknown value becomes the reason why the value is unknown.
fn plain(value: &Value) -> Json {
    if let Some(unknown) = unknown_of(value) {
        return json!(format!("unknown: {unknown}"));
    }
    if is_list(value) {
        return value.try_iter().into_iter().flatten().map(|item| plain(&item)).collect();
    }
    if is_map(value) {
        let fields = value.try_iter().into_iter().flatten();
        let field = |key: Value| Some((key.as_str().map_or_else(|| key.to_string(), str::to_owned), plain(&value.get_item(&key).ok()?)));
        return Json::Object(fields.filter_map(field).collect());
    }
    serde_json::to_value(value).unwrap_or(Json::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_expr::unavailable;

    #[test]
    fn unknown_value_shows_its_reason() {
        let item = Value::from_pairs([("node", Value::from("n1")), ("json", unavailable("the probe failed: refused"))]);
        let seen = plain(&Value::from(vec![item, Value::from(1.5)]));
        assert_eq!(seen, json!([{ "node": "n1", "json": "unknown: the probe failed: refused" }, 1.5]));
        let asked = ObserveRequest { observations: vec!["up".into()], logs: vec!["n1".into(), "n2".into()] };
        assert_eq!((asked.text(), ObserveRequest::default().text()), ("observe up logs n1 logs n2".into(), "observe".into()));
    }
}
