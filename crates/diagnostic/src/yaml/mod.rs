//! YAML reader and writer: the only module that uses the YAML crates.
//!
//! Text becomes a JSON value. The reader refuses YAML features that JSON does not have, and names each one in an error: merge keys, tags,
//! non-finite numbers, keys that are not text, and several documents. The places of values are determined only when an error is reported.

mod misread;
pub mod places;
mod trouble;

use std::sync::Arc;

use serde_json::{Map, Value};
use serde_yaml::Value as Yaml;

use crate::{Diagnostic, Pointer, SourceFile, SourcePlace};

pub use misread::{quoted, split_flow};

/// Largest accepted file in bytes. Scenario files are much smaller. The limit protects against exponentially expanding aliases and wrong
/// paths.
pub const LIMIT: u64 = 1 << 20;

/// Reads one YAML document. Returns a value if the syntax is valid, even if the reader refused parts of the value.
#[must_use]
pub fn read(file: &Arc<SourceFile>) -> (Option<Value>, Vec<Diagnostic>) {
    let here = || SourcePlace::new(Arc::clone(file), Pointer::default());
    if file.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim_end() == "---") {
        let problem = Diagnostic::error("empty_file", format!("`{}` is empty", file.name)).help("`chaosrun init DIR` creates sample files");
        return (None, vec![problem]);
    }
    if let Some(problems) = trouble::too_deep(file) {
        return (None, problems);
    }
    let yaml: Yaml = match serde_yaml::from_str(&file.text) {
        Ok(yaml) => yaml,
        Err(error) => return (None, trouble::explain(file, &error)),
    };
    let mut problems = Vec::new();
    // The reader silently drops tags of the core schema (`!!str`).
    if file.text.contains("!!")
        && let Ok(places) = places::Places::scan(&file.text)
    {
        for (span, tag) in places.tags.into_iter().filter(|(_, tag)| tag.starts_with("tag:yaml.org")) {
            let name = tag.rsplit([':', '!']).next().unwrap_or_default();
            problems.push(tag_refused(&format!("!!{name}"), here().within(span)));
        }
    }
    let value = convert(yaml, &Pointer::default(), file, &mut problems);
    (Some(value), problems)
}

/// Reads a value in the notation of a command line, such as `500ms`, `3` or `[a, b]`.
///
/// # Errors
/// Returns one sentence if the text is not valid YAML.
pub fn read_value(text: &str) -> Result<Value, String> {
    let file = Arc::new(SourceFile { name: String::new(), text: text.to_owned() });
    if text.trim().is_empty() {
        return Ok(Value::String(String::new()));
    }
    let yaml: Yaml = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    let value = convert(yaml, &Pointer::default(), &file, &mut problems);
    problems.into_iter().next().map_or(Ok(value), |problem| Err(problem.message))
}

/// Formats a value as YAML, for the output of `plan --print-config`.
///
/// # Errors
/// Returns the error of the YAML writer. The values of a resolved scenario never cause an error.
pub fn write(value: &impl serde::Serialize) -> Result<String, String> {
    // Converts to JSON first, so that enums become maps and not tags.
    let value = serde_json::to_value(value).map_err(|error| error.to_string())?;
    serde_yaml::to_string(&value).map_err(|error| error.to_string())
}

fn tag_refused(tag: &str, place: SourcePlace) -> Diagnostic {
    Diagnostic::error("yaml_tag", format!("YAML tag `{tag}` is not allowed here"))
        .at(place)
        .label("tags are not used in these files")
        .help("write the value without a tag; if it is an expression that begins with `!`, write `not ...`")
}

fn convert(yaml: Yaml, pointer: &Pointer, file: &Arc<SourceFile>, problems: &mut Vec<Diagnostic>) -> Value {
    let place = || SourcePlace::new(Arc::clone(file), pointer.clone());
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => {
            let exact = number.as_u64().map(Value::from).or_else(|| number.as_i64().map(Value::from));
            let value = exact.or_else(|| number.as_f64().and_then(serde_json::Number::from_f64).map(Value::Number));
            value.unwrap_or_else(|| {
                problems.push(
                    Diagnostic::error("yaml_number", format!("`{number}` is not a valid number"))
                        .at(place())
                        .label("expected a finite number")
                        .help("remove the key for no limit; quote the value for text"),
                );
                Value::Null
            })
        }
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().enumerate().map(|(at, item)| convert(item, &pointer.index(at), file, problems)).collect())
        }
        Yaml::Tagged(tagged) => {
            problems.push(tag_refused(&tagged.tag.to_string(), place()));
            convert(tagged.value, pointer, file, problems)
        }
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                match key {
                    Yaml::String(key) if key == "<<" => problems.push(
                        Diagnostic::error("yaml_merge", "merge keys (`<<`) are not allowed")
                            .at(SourcePlace { on_key: true, ..SourcePlace::new(Arc::clone(file), pointer.key("<<")) })
                            .label("merged values would have no position in the file")
                            .help("repeat the keys, or move common parts into the cluster file"),
                    ),
                    Yaml::String(key) => {
                        let value = convert(value, &pointer.key(key.as_str()), file, problems);
                        map.insert(key, value);
                    }
                    other => problems.push(key_refused(&other, pointer, file)),
                }
            }
            Value::Object(map)
        }
    }
}

fn key_refused(key: &Yaml, pointer: &Pointer, file: &Arc<SourceFile>) -> Diagnostic {
    let (shown, found) = match key {
        Yaml::Null => ("null".to_owned(), "nothing"),
        Yaml::Bool(value) => (value.to_string(), "a boolean"),
        Yaml::Number(value) => (value.to_string(), "a number"),
        _ => {
            // `url: {{ self.client }}`: YAML reads the braces of a template as maps.
            let template = misread::template_at(file, pointer);
            let problem = Diagnostic::error("yaml_misread", "YAML reads `{{` at the start of a value as a map, not as a template")
                .at(SourcePlace::new(Arc::clone(file), pointer.clone()))
                .label("this must be quoted");
            return match template {
                Some(fixed) => problem.help(format!("quote the whole value: `{fixed}`")),
                None => problem.help("quote the whole value: `\"{{ ... }}\"`"),
            };
        }
    };
    Diagnostic::error("yaml_key", format!("key `{shown}` is {found}, not text"))
        .at(SourcePlace { on_key: true, ..SourcePlace::new(Arc::clone(file), pointer.key(shown.as_str())) })
        .label("keys must be text")
        .help(format!("quote it: `\"{shown}\"`"))
}
