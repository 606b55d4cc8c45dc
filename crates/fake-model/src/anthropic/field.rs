//! Fields of a request, with the real server's error messages.

use serde_json::{Map, Value};

use crate::problem::ApiProblem;

pub type Object = Map<String, Value>;

/// Reads a map that has only known keys.
///
/// # Errors
/// The refusal.
pub fn object<'a>(value: &'a Value, path: &str, known: &[&str]) -> Result<&'a Object, ApiProblem> {
    let map = value.as_object().ok_or_else(|| ApiProblem::invalid(format!("{path}: Input should be a valid dictionary")))?;
    only(map, path, known)?;
    Ok(map)
}

/// Checks that a map has only known keys.
///
/// # Errors
/// The refusal of the first unknown key.
pub fn only(map: &Object, path: &str, known: &[&str]) -> Result<(), ApiProblem> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(ApiProblem::invalid(format!("{}: Extra inputs are not permitted", under(path, key)))),
        None => Ok(()),
    }
}

/// Reads a required field.
///
/// # Errors
/// The refusal.
pub fn required<'a>(map: &'a Object, path: &str, key: &str) -> Result<&'a Value, ApiProblem> {
    map.get(key).ok_or_else(|| ApiProblem::invalid(format!("{}: Field required", under(path, key))))
}

/// Reads a required text, like [`required`].
///
/// # Errors
/// The refusal.
pub fn text<'a>(map: &'a Object, path: &str, key: &str) -> Result<&'a str, ApiProblem> {
    let wrong = || ApiProblem::invalid(format!("{}: Input should be a valid string", under(path, key)));
    required(map, path, key)?.as_str().ok_or_else(wrong)
}

/// Reads a required enumeration value, like [`required`].
///
/// # Errors
/// The refusal.
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
