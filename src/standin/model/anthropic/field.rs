//! Fields of a request, with the server's words for what is wrong with them.

use serde_json::{Map, Value};

use crate::standin::model::problem::Problem;

pub type Object = Map<String, Value>;

/// A map with none but the known keys.
///
/// # Errors
/// The refusal.
pub fn object<'a>(value: &'a Value, path: &str, known: &[&str]) -> Result<&'a Object, Problem> {
    let map = value.as_object().ok_or_else(|| Problem::invalid(format!("{path}: Input should be a valid dictionary")))?;
    only(map, path, known)?;
    Ok(map)
}

/// # Errors
/// The refusal of the first unknown key.
pub fn only(map: &Object, path: &str, known: &[&str]) -> Result<(), Problem> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Problem::invalid(format!("{}: Extra inputs are not permitted", under(path, key)))),
        None => Ok(()),
    }
}

/// A field that must be there.
///
/// # Errors
/// The refusal.
pub fn required<'a>(map: &'a Object, path: &str, key: &str) -> Result<&'a Value, Problem> {
    map.get(key).ok_or_else(|| Problem::invalid(format!("{}: Field required", under(path, key))))
}

/// As [`required`], of text.
///
/// # Errors
/// The refusal.
pub fn text<'a>(map: &'a Object, path: &str, key: &str) -> Result<&'a str, Problem> {
    let wrong = || Problem::invalid(format!("{}: Input should be a valid string", under(path, key)));
    required(map, path, key)?.as_str().ok_or_else(wrong)
}

/// As [`required`], of a word among several.
///
/// # Errors
/// The refusal.
pub fn word<'a>(map: &'a Object, path: &str, key: &str, known: &[&str]) -> Result<&'a str, Problem> {
    let found = text(map, path, key)?;
    if known.contains(&found) {
        return Ok(found);
    }
    let known: Vec<String> = known.iter().map(|word| format!("'{word}'")).collect();
    Err(Problem::invalid(format!("{}: Input should be {}", under(path, key), known.join(" or "))))
}

#[must_use]
pub fn under(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
