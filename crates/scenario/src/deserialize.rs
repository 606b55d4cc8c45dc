//! Deserialization of JSON values into the raw types. Serde stops at the first problem, but users need all of them. Each invalid value is
//! therefore reported and removed, and the rest is deserialized again.

use serde::de::DeserializeOwned;
use serde_json::Value;

use chaosrun_diagnostic::yaml;
use chaosrun_diagnostic::{Diagnostic, Pointer, SourcePlace};
use chaosrun_input::{Document, TypeMismatch, deserialize, get, get_mut, names};

/// Maximum number of problems that are reported per file. The limit also bounds the number of deserialization attempts.
const ROUNDS: usize = 100;

/// Deserializes a document into a raw type, and returns all problems. Invalid values are removed from the document.
pub fn typed<T: DeserializeOwned>(doc: &mut Document) -> (Option<T>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let mut gone: Vec<Pointer> = Vec::new();
    for _ in 0..ROUNDS {
        let error = match deserialize::<T>(&doc.value) {
            Ok(raw) => return (Some(raw), problems),
            Err(error) => error,
        };
        let pointer = error.at.unwrap_or_default();
        let original = doc.before_removals(&pointer);
        let (remove, known) = match &error.mismatch {
            TypeMismatch::UnknownField { name, .. } => {
                let field = pointer.key(name.as_str());
                if let Some(problem) = split(doc, &field, name) {
                    gone.push(doc.before_removals(&field));
                    problems.push(problem);
                    continue;
                }
                (field, false)
            }
            TypeMismatch::MissingField { name } => (pointer.clone(), gone.contains(&original.key(*name))),
            _ => (nearest(doc, &pointer), gone.iter().any(|gone| gone.0.starts_with(&original.0))),
        };
        if !known {
            problems.push(describe(doc, &pointer, &error.mismatch));
        }
        gone.push(doc.before_removals(&remove));
        if remove.0.is_empty() {
            return (None, problems);
        }
        doc.remove(&remove);
    }
    (None, problems)
}

/// Returns the pointer of the value at `pointer`, or of its nearest existing ancestor. A single word counts as one value, because no part
/// of it can be removed.
fn nearest(doc: &Document, pointer: &Pointer) -> Pointer {
    let mut near = pointer.clone();
    while !near.0.is_empty() && get(&doc.value, &near).is_none() {
        near.0.pop();
    }
    near
}

/// Handles a key without a value, which may be the rest of a value that YAML split at its commas. The parts of such a value are joined
/// again, so that its content can be checked too.
fn split(doc: &mut Document, left_over: &Pointer, name: &str) -> Option<Diagnostic> {
    let (_, above) = left_over.0.split_last().filter(|_| get(&doc.value, left_over).is_some_and(Value::is_null))?;
    let place = doc.place(left_over);
    let (_, map) = place.pointer.0.split_last()?;
    let found = yaml::split_flow(&place.file, &Pointer(map.to_vec()), name)?;
    let above = Pointer(above.to_vec());
    for key in found.left_over {
        doc.remove(&above.key(key));
    }
    if let Some(Value::Object(map)) = get_mut(&mut doc.value, &above) {
        map.insert(found.key.clone(), Value::from(found.text.as_str()));
    }
    let problem = Diagnostic::error("yaml_misread", format!("YAML splits the value of `{}` at its commas", found.key));
    let fixed = format!("quote the whole value: `{}: {}`", found.key, yaml::quoted(&found.text));
    Some(problem.at(SourcePlace { inner: Some(found.span), pointer: Pointer::default(), ..place }).label("this must be quoted").help(fixed))
}

fn describe(doc: &Document, pointer: &Pointer, mismatch: &TypeMismatch) -> Diagnostic {
    match mismatch {
        TypeMismatch::UnknownField { name, known } => {
            let problem = Diagnostic::error("unknown_field", format!("unknown field `{name}`{}", inside(pointer)));
            suggest(problem.at(doc.key_place(&pointer.key(name.as_str()))), name, known)
        }
        TypeMismatch::MissingField { name } => Diagnostic::error("missing_field", format!("`{name}` is missing{}", inside(pointer)))
            .at(doc.key_place(pointer))
            .label(format!("expected `{name}` in this map")),
        TypeMismatch::UnknownVariant { name, known } => {
            // The path ends at the parent. The word is the value itself, or a key of this map.
            let keyed = pointer.key(name.as_str());
            let place = if get(&doc.value, &keyed).is_some() { doc.key_place(&keyed) } else { doc.place(pointer) };
            let what = pointer.last_key().unwrap_or("value");
            let (code, noun) = if what == "inject" { ("unknown_fault", "fault") } else { ("unknown_word", what) };
            let message =
                if code == "unknown_fault" { format!("unknown {noun} `{name}`") } else { format!("unknown word `{name}` for `{noun}`") };
            suggest(Diagnostic::error(code, message).at(place), name, known)
        }
        TypeMismatch::WrongType { found, expected } => {
            let found = found.as_deref().unwrap_or_default();
            let what = pointer.last_key().map(|key| format!("`{key}`: ")).unwrap_or_default();
            let mut problem = Diagnostic::error("wrong_type", format!("{what}expected {expected}, found {found}"))
                .at(doc.place(pointer))
                .label(format!("expected {expected}"));
            problem.help = advice(doc, pointer, expected);
            problem
        }
        TypeMismatch::Other(message) => Diagnostic::error("bad_value", message.to_lowercase()).at(doc.place(pointer)),
    }
}

/// Returns advice for a value of the wrong type: a number that needs a unit, or text that needs quotes because YAML read it as another
/// type.
fn advice(doc: &Document, pointer: &Pointer, expected: &str) -> Option<String> {
    let value = get(&doc.value, pointer)?;
    let place = doc.place(pointer);
    let source = || {
        let found = yaml::places::Places::scan(&place.file.text).ok()?.find(&place.pointer)?;
        place.file.text.get(found.value).map(str::to_owned)
    };
    match value {
        Value::Number(number) if expected.starts_with("a duration") => Some(format!("give the unit: `{number}s` or `{number}ms`")),
        Value::Number(_) | Value::Bool(_) if expected.contains("text") => {
            source().map(|text| format!("quote it: `{}`", yaml::quoted(&text)))
        }
        Value::Array(_) | Value::Object(_) if expected.contains("text") || expected.contains("expression") => {
            Some("if this is one expression, quote the whole value".to_owned())
        }
        Value::String(text) if expected.contains("number") && text.replace('_', "").parse::<f64>().is_ok() => {
            Some(format!("write `{}` without quotes and underscores", text.replace('_', "")))
        }
        _ => None,
    }
}

fn suggest(problem: Diagnostic, name: &str, known: &[&str]) -> Diagnostic {
    let problem = match names::closest(name, known.iter().copied()) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem,
    };
    if known.is_empty() { problem } else { problem.help(format!("known here: {}", names::listed(known.iter().copied()))) }
}

fn inside(pointer: &Pointer) -> String {
    if pointer.0.is_empty() { String::new() } else { format!(" in `{pointer}`") }
}
