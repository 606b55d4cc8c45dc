//! Access to fields of a request, with the error messages of the real server.

use serde_json::{Map, Value};

use crate::problem::ApiProblem;

pub type Object = Map<String, Value>;

/// Returns the value as a map. Accepts only the keys in `known`.
///
/// # Errors
/// Returns the error for the client if the value is not a map or has an unknown key.
pub fn object<'a>(value: &'a Value, path: &str, known: &[&str]) -> Result<&'a Object, ApiProblem> {
    let map = value.as_object().ok_or_else(|| ApiProblem::invalid(format!("{path}: Input should be a valid dictionary")))?;
    only(map, path, known)?;
    Ok(map)
}

/// Checks that a map has only the keys in `known`.
///
/// # Errors
/// Returns the error for the client about the first unknown key.
pub fn only(map: &Object, path: &str, known: &[&str]) -> Result<(), ApiProblem> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(ApiProblem::invalid(format!("{}: Extra inputs are not permitted", under(path, key)))),
        None => Ok(()),
    }
}

/// Returns the value of a required field.
///
/// # Errors
/// Returns the error for the client if the field is missing.
pub fn required<'a>(map: &'a Object, path: &str, key: &str) -> Result<&'a Value, ApiProblem> {
    map.get(key).ok_or_else(|| ApiProblem::invalid(format!("{}: Field required", under(path, key))))
}

/// Returns the text of a required field.
///
/// # Errors
/// Returns the error for the client if the field is missing or not a text.
pub fn text<'a>(map: &'a Object, path: &str, key: &str) -> Result<&'a str, ApiProblem> {
    let wrong = || ApiProblem::invalid(format!("{}: Input should be a valid string", under(path, key)));
    required(map, path, key)?.as_str().ok_or_else(wrong)
}

/// Returns the text of a required field that must be one of the words in `known`.
///
/// # Errors
/// Returns the error for the client if the field is missing or has another value.
pub fn word<'a>(map: &'a Object, path: &str, key: &str, known: &[&str]) -> Result<&'a str, ApiProblem> {
    let found = text(map, path, key)?;
    if known.contains(&found) {
        return Ok(found);
    }
    let known: Vec<String> = known.iter().map(|word| format!("'{word}'")).collect();
    Err(ApiProblem::invalid(format!("{}: Input should be {}", under(path, key), known.join(" or "))))
}

#[must_use]
pub fn under(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
