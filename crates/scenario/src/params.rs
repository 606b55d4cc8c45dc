//! Parsing of the parameters of an action call, according to the types that the cluster file declares. The functions are pure.

use std::fmt::Write as _;
use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value};

use crate::duration;
use crate::model::{Action, Param, ParamKind};
use chaosrun_input::names;

/// Maximum length of a text parameter in bytes. The text becomes part of an address or a command.
const LONGEST: usize = 1024;

/// Parses all parameters of a call, in the order of the cluster file. Missing parameters get their default values.
///
/// # Errors
/// Returns one text with all problems, for the caller of the action.
pub fn read_all(action: &Action, given: &Map<String, Value>) -> Result<Map<String, Value>, Vec<String>> {
    let mut read = Map::new();
    let mut wrong = Vec::new();
    for (name, param) in &action.params {
        // Null counts as missing, because models send null for omitted parameters.
        match (given.get(name).filter(|value| !value.is_null()), &param.default) {
            (Some(value), _) => match self::read(&param.kind, value) {
                Ok(value) => drop(read.insert(name.clone(), value)),
                Err(why) => wrong.push(format!("`{name}` is {why}")),
            },
            (None, Some(default)) => drop(read.insert(name.clone(), default.clone())),
            (None, None) => wrong.push(format!("`{name}` is missing, expected {}", words(param))),
        }
    }
    for name in given.keys().filter(|name| !action.params.contains_key(*name)) {
        let known = || action.params.keys().map(String::as_str);
        let near = names::closest(name, known()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let known = names::listed(known());
        let known = if known.is_empty() { "the action takes no parameters".to_owned() } else { format!("the action takes {known}") };
        wrong.push(format!("unknown parameter `{name}`: {known}{near}"));
    }
    if wrong.is_empty() { Ok(read) } else { Err(wrong) }
}

/// Parses the value of one parameter of type `kind`.
///
/// # Errors
/// Returns a description of the mismatch between the found value and the expected values. It continues a sentence that ends with "it is".
pub fn read(kind: &ParamKind, value: &Value) -> Result<Value, String> {
    let expected = || Err(format!("`{}`, expected {}", plain(value), expectation(kind)));
    match kind {
        ParamKind::Node { names } | ParamKind::Role { names } | ParamKind::Enum { of: names } => {
            let word = plain(value);
            if value.is_string() && names.contains(&word) || matches!(kind, ParamKind::Enum { .. }) && names.contains(&word) {
                return Ok(word.into());
            }
            let near = names::closest(&word, names.iter().map(String::as_str));
            let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            Err(format!("`{word}`, expected {}{near}", expectation(kind)))
        }
        ParamKind::String { pattern } => {
            let Some(text) = value.as_str() else { return expected() };
            if text.len() > LONGEST || text.contains('\0') {
                return Err(format!("a string of {} bytes, expected at most {LONGEST} bytes and no NUL byte", text.len()));
            }
            let fits = pattern.as_ref().is_none_or(|pattern| whole(pattern).is_some_and(|pattern| pattern.is_match(text)));
            if fits { Ok(text.into()) } else { expected() }
        }
        ParamKind::Integer { min, max } => {
            // Accepts quoted numbers, because models often quote numbers and the meaning is unambiguous.
            let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok()).or_else(|| whole_number(value));
            let Some(number) = number else { return expected() };
            if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) { expected() } else { Ok(number.into()) }
        }
        ParamKind::Number { min, max } => {
            let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number: &f64| number.is_finite());
            let Some(number) = number else { return expected() };
            if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) { expected() } else { Ok(number.into()) }
        }
        ParamKind::Boolean => match (value.as_bool(), value.as_str()) {
            (Some(truth), _) => Ok(truth.into()),
            (None, Some("true")) => Ok(true.into()),
            (None, Some("false")) => Ok(false.into()),
            _ => expected(),
        },
        ParamKind::Duration { min, max } => {
            let Some(Ok(time)) = value.as_str().map(duration) else { return expected() };
            if min.is_some_and(|min| time < min) || max.is_some_and(|max| time > max) {
                return expected();
            }
            Ok(humantime::format_duration(time).to_string().into())
        }
    }
}

/// Returns the value of a whole number, which may be written as a float such as `3.0`. Returns `None` for other values.
fn whole_number(value: &Value) -> Option<i64> {
    let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
    Some(number as i64)
}

fn whole(pattern: &str) -> Option<Arc<Regex>> {
    Regex::new(&format!("^(?:{pattern})$")).ok().map(Arc::new)
}

/// Formats a value for a message. Text has no quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Describes the values that a parameter accepts.
#[must_use]
pub(crate) fn expectation(kind: &ParamKind) -> String {
    let between = |min: Option<String>, max: Option<String>| match (min, max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of at least {min}"),
        (None, Some(max)) => format!(" of at most {max}"),
        (None, None) => String::new(),
    };
    let one_of = |what: &str, names: &[String]| match names {
        [] => format!("{what} (none exists)"),
        names => format!("{what}: one of {}", names.join(", ")),
    };
    let time = |time: &std::time::Duration| humantime::format_duration(*time).to_string();
    match kind {
        ParamKind::Node { names } => one_of("the name of a node", names),
        ParamKind::Role { names } => one_of("the name of a role", names),
        ParamKind::Enum { of } => format!("one of {}", of.join(", ")),
        ParamKind::String { pattern: None } => "a string".into(),
        ParamKind::String { pattern: Some(pattern) } => format!("a string that matches /{pattern}/"),
        ParamKind::Integer { min, max } => format!("an integer{}", between(min.map(|n| n.to_string()), max.map(|n| n.to_string()))),
        ParamKind::Number { min, max } => format!("a number{}", between(min.map(|n| n.to_string()), max.map(|n| n.to_string()))),
        ParamKind::Boolean => "true or false".into(),
        ParamKind::Duration { min, max } => {
            format!("a duration such as `10s`{}", between(min.as_ref().map(time), max.as_ref().map(time)))
        }
    }
}

/// Describes a parameter: its accepted values, its purpose and its default.
#[must_use]
pub fn words(param: &Param) -> String {
    let mut words = expectation(&param.kind);
    if let Some(default) = &param.default {
        let _ = write!(words, ", default `{}`", plain(default));
    }
    if !param.description.is_empty() {
        let _ = write!(words, " ({})", param.description);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use indexmap::IndexMap;
    use serde_json::json;

    use super::*;
    use crate::model::Risk;

    fn action(params: Vec<(&str, ParamKind, Option<Value>)>) -> Action {
        let param = |(name, kind, default): (&str, ParamKind, Option<Value>)| {
            (name.to_owned(), Param { kind, default, description: String::new() })
        };
        Action {
            id: "a".into(),
            description: String::new(),
            risk: Risk::Low,
            params: params.into_iter().map(param).collect::<IndexMap<_, _>>(),
            require: Vec::new(),
            steps: Vec::new(),
            ensure: None,
            undo: None,
        }
    }

    fn names() -> Vec<String> {
        ["tikv1", "tikv2"].map(str::to_owned).into()
    }

    #[test]
    fn each_type_accepts_its_values_and_names_the_expected_ones() {
        let second = Duration::from_secs(1);
        let cases = [
            (ParamKind::Node { names: names() }, json!("tikv1"), Ok(json!("tikv1"))),
            (ParamKind::Node { names: names() }, json!("tikv3"), Err("did you mean `tikv1`?")),
            (ParamKind::Node { names: names() }, json!(1), Err("`1`, expected the name of a node: one of tikv1, tikv2")),
            (ParamKind::Enum { of: vec!["1".into(), "x".into()] }, json!(1), Ok(json!("1"))),
            (ParamKind::Integer { min: Some(1), max: Some(9) }, json!("7"), Ok(json!(7))),
            (ParamKind::Integer { min: Some(1), max: Some(9) }, json!(7.0), Ok(json!(7))),
            (ParamKind::Integer { min: Some(1), max: Some(9) }, json!(10), Err("`10`, expected an integer from 1 to 9")),
            (ParamKind::Integer { min: None, max: None }, json!(1.5), Err("`1.5`, expected an integer")),
            (ParamKind::Number { min: Some(0.5), max: None }, json!(0.25), Err("expected a number of at least 0.5")),
            (ParamKind::Boolean, json!("true"), Ok(json!(true))),
            (ParamKind::Boolean, json!("yes"), Err("expected true or false")),
            (ParamKind::Duration { min: None, max: Some(second) }, json!("500ms"), Ok(json!("500ms"))),
            (ParamKind::Duration { min: None, max: Some(second) }, json!("2s"), Err("of at most 1s")),
            (ParamKind::Duration { min: None, max: None }, json!(2), Err("expected a duration such as `10s`")),
            (ParamKind::String { pattern: Some("[a-z]+".into()) }, json!("abc"), Ok(json!("abc"))),
            (ParamKind::String { pattern: Some("[a-z]+".into()) }, json!("a/b"), Err("a string that matches /[a-z]+/")),
            (ParamKind::String { pattern: None }, json!(["a"]), Err("expected a string")),
            (ParamKind::String { pattern: None }, json!("x".repeat(2000)), Err("a string of 2000 bytes")),
        ];
        for (kind, value, expected) in cases {
            match (read(&kind, &value), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{kind:?}"),
                (Err(said), Err(expected)) => assert!(said.contains(expected), "{said}"),
                (found, expected) => panic!("{kind:?} of {value}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn all_problems_are_reported_at_once_and_defaults_are_used() {
        let kind = || ParamKind::Integer { min: None, max: None };
        let action = action(vec![("region", kind(), None), ("wait", kind(), Some(json!(5)))]);
        let of = |given: Value| read_all(&action, given.as_object().unwrap());
        assert_eq!(of(json!({ "region": 1, "wait": null })).unwrap(), *json!({ "region": 1, "wait": 5 }).as_object().unwrap());
        let wrong = of(json!({ "regio": 1, "wait": "x" })).unwrap_err().join("; ");
        for expected in ["`region` is missing, expected an integer", "`wait` is `x`", "unknown parameter `regio`", "did you mean `region`?"]
        {
            assert!(wrong.contains(expected), "{wrong}");
        }
    }
}
