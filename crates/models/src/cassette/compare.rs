//! Comparison of a request with the recorded request. The functions are pure.

use serde_json::{Map, Value, json};

use crate::divergence::Difference;
use crate::wire::json_type_name;

/// Returns the request without parts that do not change its meaning: streaming options, cache marks and user names.
pub(super) fn canonical(body: &Value) -> Value {
    let mut body = body.clone();
    if let Value::Object(top) = &mut body {
        for name in
            ["stream", "stream_options", "metadata", "client_metadata", "user", "safety_identifier", "prompt_cache_key", "cache_control"]
        {
            top.remove(name);
        }
    }
    for list in ["system", "tools"] {
        items(&mut body, list).for_each(unmark);
    }
    for message in items(&mut body, "messages") {
        items(message, "content").for_each(unmark);
    }
    for item in items(&mut body, "input") {
        // Clients assign new ids to their own items each time. `call_id` pairs calls with results.
        if let Value::Object(fields) = item {
            fields.remove("id");
        }
    }
    sorted(body)
}

fn items<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn unmark(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.remove("cache_control");
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(fields.into_iter().collect())
        }
        other => other,
    }
}

/// Returns the hash of a path and a request in canonical form.
pub(super) fn hash(path: &str, canonical: &Value) -> String {
    blake3::hash(format!("{path}\n{canonical}").as_bytes()).to_hex().to_string()
}

/// Removes cluster output from a canonical request: the first prompt and the output of commands. Exit codes and the texts that chaosrun
/// writes remain.
pub(super) fn meant(canonical: &Value) -> Value {
    let mut body = canonical.clone();
    let mut first = true;
    for message in items(&mut body, "messages") {
        let (user, result) = (message["role"] == "user", message["role"] == "tool");
        match message.get_mut("content") {
            Some(Value::String(text)) if user && first => text.clear(),
            Some(Value::String(text)) if result => outcome_alone(text),
            Some(Value::Array(blocks)) if user => {
                for block in blocks {
                    match block["type"].as_str() {
                        Some("text") if first => block["text"] = json!(""),
                        Some("tool_result") => {
                            if let Some(Value::String(text)) = block.get_mut("content") {
                                outcome_alone(text);
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        first &= !user;
    }
    body
}

/// Removes texts from a canonical request of an external program, since these texts may contain cluster output. Messages of the model, the
/// order and roles of messages, and the tools remain.
pub(super) fn asked_of_others(canonical: &Value) -> Value {
    let mut body = canonical.clone();
    for prompt in ["system", "instructions"] {
        if let Some(prompt) = body.get_mut(prompt) {
            *prompt = Value::Null;
        }
    }
    if let Some(Value::String(prompt)) = body.get_mut("input") {
        prompt.clear();
    }
    for item in items(&mut body, "input").filter(|item| item["role"] != "assistant") {
        forget(item, "content");
        forget(item, "output");
    }
    for message in items(&mut body, "messages").filter(|message| message["role"] != "assistant") {
        forget(message, "content");
    }
    body
}

/// Removes the text under `key` from a JSON value that is a string or a list of content blocks.
fn forget(said: &mut Value, key: &str) {
    match said.get_mut(key) {
        Some(Value::String(text)) => text.clear(),
        Some(Value::Array(blocks)) => {
            for block in blocks {
                let key = if block["type"] == "tool_result" { "content" } else { "text" };
                if let Some(said) = block.get_mut(key) {
                    *said = Value::Null;
                }
            }
        }
        _ => {}
    }
}

/// Reduces the text about a command result, such as `exit code 1, took 0.3 s`, to the exit code. Other texts stay unchanged.
fn outcome_alone(text: &mut String) {
    let Some(from) = text.find(EXIT_CODE).filter(|from| *from == 0 || text[..*from] == *"(failed) ") else { return };
    let digits = text[from + EXIT_CODE.len()..].find(|c: char| !c.is_ascii_digit() && c != '-');
    if let Some(digits) = digits {
        text.truncate(from + EXIT_CODE.len() + digits);
    }
}

/// Prefix of every text that reports the result of a command.
const EXIT_CODE: &str = "exit code ";

pub(super) fn difference(recorded: &Value, now: &Value) -> Option<Difference> {
    first("", recorded, now)
}

fn first(path: &str, recorded: &Value, now: &Value) -> Option<Difference> {
    let differs = |path: &str, recorded: String, now: String| {
        let place = if path.is_empty() { "the request" } else { path }.to_owned();
        Some(Difference { place, recorded, now })
    };
    match (recorded, now) {
        (Value::Object(one), Value::Object(other)) => {
            let differ = one.iter().find_map(|(name, recorded)| match other.get(name) {
                Some(now) => first(&join(path, name), recorded, now),
                None => differs(&join(path, name), short(recorded), "nothing".into()),
            });
            differ.or_else(|| only_in(other, one).and_then(|(name, now)| differs(&join(path, name), "nothing".into(), short(now))))
        }
        (Value::Array(one), Value::Array(other)) => {
            let differ = one.iter().zip(other).enumerate().find_map(|(at, (recorded, now))| first(&format!("{path}[{at}]"), recorded, now));
            let items = |list: &[Value]| format!("{} items", list.len());
            differ.or_else(|| if one.len() == other.len() { None } else { differs(path, items(one), items(other)) })
        }
        (Value::String(one), Value::String(other)) if one != other => {
            let (one, other) = around(one, other);
            differs(path, one, other)
        }
        (one, other) if one == other => None,
        (one, other) => differs(path, short(one), short(other)),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn only_in<'a>(one: &'a Map<String, Value>, other: &Map<String, Value>) -> Option<(&'a String, &'a Value)> {
    one.iter().find(|(name, _)| !other.contains_key(*name))
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { json_type_name(value).to_owned() }
}

/// Returns excerpts of both texts around their first difference.
fn around(one: &str, other: &str) -> (String, String) {
    const BEFORE: usize = 20;
    const AFTER: usize = 40;
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    let from = same.saturating_sub(BEFORE);
    let cut = |text: &str| {
        let part: String = text.chars().skip(from).take(same - from + AFTER).collect();
        let (head, tail) = (if from > 0 { "…" } else { "" }, if text.chars().nth(same + AFTER).is_some() { "…" } else { "" });
        format!("{:?}", format!("{head}{part}{tail}"))
    };
    (cut(one), cut(other))
}
