//! From JSON to the raw types. Serde stops at the first problem, a user wants all of them: each offending value is
//! reported, taken out, and the rest is tried again.

use std::sync::LazyLock;

use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::document::{Document, get, get_mut};
use super::kind::Kind;
use super::names;
use super::schema;
use super::yaml;
use crate::diagnostic::{Diagnostic, Place, Pointer};

/// No file has more problems than a person reads; the limit keeps the work bounded.
const ROUNDS: usize = 100;

/// Types a document. Values that could not be typed are gone from it afterwards.
pub fn typed<T: DeserializeOwned>(doc: &mut Document, kind: Kind) -> (Option<T>, Vec<Diagnostic>) {
    typed_by(doc, schema::of(kind))
}

/// As [`typed`], by the schema that belongs to the type.
pub fn typed_by<T: DeserializeOwned>(doc: &mut Document, schema: &Value) -> (Option<T>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let mut gone: Vec<Pointer> = Vec::new();
    // Serde takes a list for a map whose keys are in that order: nobody means that in a file.
    for pointer in schema::misplaced_lists(schema, &doc.value) {
        let what = pointer.last_key().map(|key| format!("`{key}`: ")).unwrap_or_default();
        let problem = Diagnostic::error("wrong_type", format!("{what}expected a map, found a list"));
        problems.push(problem.at(doc.place(&pointer)).label("expected a map"));
        gone.push(pointer.clone());
        doc.remove(&pointer);
    }
    for _ in 0..ROUNDS {
        let error = match serde_path_to_error::deserialize::<_, T>(&doc.value) {
            Ok(raw) => return (Some(raw), problems),
            Err(error) => error,
        };
        let pointer = pointer(error.path());
        let said = error.inner().to_string();
        let fault = Fault::read(&said);
        let original = doc.before_removals(&pointer);
        let (remove, known) = match &fault {
            Fault::UnknownField { name, .. } => {
                // The path of an unknown field may or may not end in the field itself.
                let field = if get(&doc.value, &pointer.key(*name)).is_some() { pointer.key(*name) } else { pointer.clone() };
                (field, false)
            }
            Fault::MissingField { name } => (pointer.clone(), gone.contains(&original.key(*name))),
            _ => (pointer.clone(), gone.iter().any(|gone| gone.0.starts_with(&original.0))),
        };
        if let (Fault::UnknownField { name, .. }, Some(problem)) = (&fault, split(doc, &remove, &fault)) {
            gone.push(doc.before_removals(&pointer.key(*name)));
            problems.push(problem);
            continue;
        }
        if !known {
            problems.push(describe(doc, &pointer, &remove, &fault, &said));
        }
        gone.push(doc.before_removals(&remove));
        if remove.0.is_empty() {
            return (None, problems);
        }
        doc.remove(&remove);
    }
    (None, problems)
}

/// A key without a value that is in truth the rest of a value YAML split at its commas. Puts the value together again, so
/// that what is within it can be checked too.
fn split(doc: &mut Document, left_over: &Pointer, fault: &Fault) -> Option<Diagnostic> {
    let Fault::UnknownField { name, .. } = fault else { return None };
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
    Some(problem.at(Place { inner: Some(found.span), pointer: Pointer::default(), ..place }).label("this must be quoted").help(fixed))
}

/// What serde complains about. Its messages are stable and the only way to know.
enum Fault<'a> {
    UnknownField { name: &'a str, known: Vec<&'a str> },
    MissingField { name: &'a str },
    UnknownVariant { name: &'a str, known: Vec<&'a str> },
    WrongType { found: &'a str, expected: &'a str },
    Other,
}

impl<'a> Fault<'a> {
    fn read(said: &'a str) -> Self {
        let ticked = || said.split('`').skip(1).step_by(2);
        if said.starts_with("unknown field ") {
            Self::UnknownField { name: ticked().next().unwrap_or_default(), known: ticked().skip(1).collect() }
        } else if said.starts_with("missing field ") {
            Self::MissingField { name: ticked().next().unwrap_or_default() }
        } else if said.starts_with("unknown variant ") {
            Self::UnknownVariant { name: ticked().next().unwrap_or_default(), known: ticked().skip(1).collect() }
        } else if let Some((found, expected)) = said
            .strip_prefix("invalid type: ")
            .or_else(|| said.strip_prefix("invalid value: "))
            .or_else(|| said.strip_prefix("invalid length "))
            .and_then(|rest| rest.rsplit_once(", expected "))
        {
            Self::WrongType { found, expected }
        } else {
            Self::Other
        }
    }
}

fn describe(doc: &Document, pointer: &Pointer, remove: &Pointer, fault: &Fault, said: &str) -> Diagnostic {
    match fault {
        Fault::UnknownField { name, known } => {
            let problem = Diagnostic::error("unknown_field", format!("unknown field `{name}`{}", within(pointer, remove)));
            suggest(problem.at(doc.key_place(remove)), name, known)
        }
        Fault::MissingField { name } => Diagnostic::error("missing_field", format!("`{name}` is missing{}", inside(pointer)))
            .at(doc.key_place(pointer))
            .label(format!("expected `{name}` in this map")),
        Fault::UnknownVariant { name, known } => {
            // The path stops at the parent: the word is the value itself, or the key of the map that it is.
            let keyed = pointer.key(*name);
            let place = if get(&doc.value, &keyed).is_some() { doc.key_place(&keyed) } else { doc.place(pointer) };
            let what = pointer.last_key().unwrap_or("value");
            let (code, noun) = if what == "inject" { ("unknown_fault", "fault") } else { ("unknown_word", what) };
            let message =
                if code == "unknown_fault" { format!("unknown {noun} `{name}`") } else { format!("unknown word `{name}` for `{noun}`") };
            suggest(Diagnostic::error(code, message).at(place), name, known)
        }
        Fault::WrongType { found, expected } => {
            let (found, expected) = (plain(found), plain(expected));
            let what = pointer.last_key().map(|key| format!("`{key}`: ")).unwrap_or_default();
            let mut problem = Diagnostic::error("wrong_type", format!("{what}expected {expected}, found {found}"))
                .at(doc.place(pointer))
                .label(format!("expected {expected}"));
            problem.help = advice(doc, pointer, &expected);
            problem
        }
        Fault::Other => Diagnostic::error("bad_value", said.to_lowercase()).at(doc.place(pointer)),
    }
}

/// Text that YAML read as something else, in quotes; numbers where a unit is needed.
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

fn within(pointer: &Pointer, remove: &Pointer) -> String {
    let above = if pointer == remove { Pointer(pointer.0[..pointer.0.len().saturating_sub(1)].to_vec()) } else { pointer.clone() };
    inside(&above)
}

fn inside(pointer: &Pointer) -> String {
    if pointer.0.is_empty() { String::new() } else { format!(" in `{pointer}`") }
}

/// Serde's words for types, as people say them.
fn plain(words: &str) -> String {
    static STRUCT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(struct|enum|map) ?\w*$").expect("a valid pattern"));
    match words {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => return "a whole number".to_owned(),
        "f64" | "f32" => return "a number".to_owned(),
        "a string" | "string" | "str" => return "text".to_owned(),
        "a boolean" | "bool" => return "`true` or `false`".to_owned(),
        "a sequence" | "sequence" => return "a list".to_owned(),
        "a map" | "map" | "newtype variant" | "struct variant" => return "a map".to_owned(),
        "null" | "unit" | "unit value" => return "nothing".to_owned(),
        "map with a single key" => return "a map with a single key".to_owned(),
        "unit variant" => return "a single word".to_owned(),
        _ => {}
    }
    if STRUCT.is_match(words) {
        return "a map".to_owned();
    }
    for (serde, ours) in [("string ", "text "), ("integer ", "number "), ("floating point ", "number "), ("boolean ", "")] {
        if let Some(rest) = words.strip_prefix(serde) {
            return format!("{ours}{}", rest.replace('"', "`").replace("``", "`"));
        }
    }
    words.to_owned()
}

fn pointer(path: &serde_path_to_error::Path) -> Pointer {
    path.iter().fold(Pointer::default(), |pointer, segment| match segment {
        Segment::Seq { index } => pointer.index(*index),
        Segment::Map { key } => pointer.key(key.as_str()),
        Segment::Enum { variant } => pointer.key(variant.as_str()),
        Segment::Unknown => pointer,
    })
}
