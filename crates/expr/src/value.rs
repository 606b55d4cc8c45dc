//! Values that may be unknown. They are minijinja's values, in which lists and maps can contain parts that are marked as *unknown*.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, ValueKind};

use super::Value;
use chaosrun_diagnostic::{Diagnostic, SourcePlace};

/// Reason why the result of an expression is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownReason {
    /// The name, field or item does not exist, because the response or the file differs from the expectation of the author.
    Absent,
    /// The value exists, but is null or empty.
    Null,
    /// The probe failed, has only a result that is too old, or has not answered yet.
    Unavailable,
    /// The values have types that the operation does not accept.
    Types,
    /// All parts are known, but have no common result, for example because there is no majority.
    Undecided,
    /// A function or filter rejected its input, or the evaluation took too many steps.
    Failed,
}

/// Unknown result of an expression, with its reason and the part of the expression that caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub why: UnknownReason,
    /// Reason in words and in lowercase. Names are in backticks, and there is no final dot.
    pub reason: String,
    /// Byte range of the unknown part in the text of the expression or template.
    pub range: Range<usize>,
}

impl Unknown {
    #[must_use]
    pub fn new(why: UnknownReason, reason: impl Into<String>) -> Self {
        Self { why, reason: reason.into(), range: 0..0 }
    }

    #[expect(clippy::unnecessary_box_returns, reason = "it is the error of `Known`")]
    pub(super) fn at(why: UnknownReason, range: &Range<usize>, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { why, reason: reason.into(), range: range.clone() })
    }

    /// Returns true if the result is unknown because the file does not match the system, not because the system is faulty. If this mismatch
    /// lasts, the trial says nothing about the agent.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        matches!(self.why, UnknownReason::Absent | UnknownReason::Types | UnknownReason::Failed)
    }

    pub(super) fn diagnostic(&self, place: Option<&SourcePlace>) -> Diagnostic {
        let code = match self.why {
            UnknownReason::Absent => "absent_value",
            UnknownReason::Null => "null_value",
            UnknownReason::Unavailable => "unavailable_value",
            UnknownReason::Types => "wrong_type",
            UnknownReason::Undecided => "undecided",
            UnknownReason::Failed => "expression_failed",
        };
        let diagnostic = Diagnostic::error(code, &self.reason);
        match place {
            Some(place) if !self.range.is_empty() => diagnostic.at(place.within(self.range.clone())),
            Some(place) => diagnostic.at(place.clone()),
            None => diagnostic,
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for Unknown {}

/// Object that represents an unknown part within a list or map.
#[derive(Debug)]
struct Mark(Unknown);

impl Object for Mark {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown")
    }
}

impl From<Unknown> for Value {
    fn from(unknown: Unknown) -> Self {
        Self::from_object(Mark(unknown))
    }
}

/// Creates a value that is marked as unavailable, for the result of a probe. The reason is a text such as `probe failed: connection
/// refused`.
#[must_use]
pub fn unavailable(reason: impl Into<String>) -> Value {
    Value::from(Unknown::new(UnknownReason::Unavailable, reason))
}

/// Converts a serializable Rust value to a value for expressions.
#[must_use]
pub fn of_serde(value: &impl serde::Serialize) -> Value {
    Value::from(minijinja::value::Serde(value))
}

/// Returns the unknown result that the value represents. Returns `None` if the value is known.
#[must_use]
pub fn unknown_of(value: &Value) -> Option<&Unknown> {
    value.downcast_object_ref::<Mark>().map(|mark| &mark.0)
}

/// Returns the first item of a list that is marked as unknown. Nested lists and maps are not searched.
pub(super) fn unknown_item(value: &Value) -> Option<Unknown> {
    if !is_list(value) {
        return None;
    }
    value.try_iter().ok()?.find_map(|item| unknown_of(&item).cloned())
}

/// Returns true if the value is a list.
#[must_use]
pub fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// Returns true if the value is a map.
#[must_use]
pub fn is_map(value: &Value) -> bool {
    value.kind() == ValueKind::Map
}

/// Returns the name of the value's type for error messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "absent",
        ValueKind::None => "null",
        ValueKind::Bool => "a boolean",
        ValueKind::Number => "a number",
        ValueKind::String | ValueKind::Bytes => "text",
        ValueKind::Seq | ValueKind::Iterable => "a list",
        ValueKind::Map => "an object",
        _ if unknown_of(value).is_some() => "unknown",
        _ => "a value",
    }
}

/// Converts a value to the text that a template prints. minijinja itself would print `True` for a boolean.
pub(super) fn text_of(value: &Value) -> String {
    if value.kind() == ValueKind::Bool { value.is_true().to_string() } else { value.to_string() }
}

/// Formats an observed value for a report. Text has no quotes, numbers have four significant digits, and long values are cut.
pub(super) fn show(value: &Value) -> String {
    const LONGEST: usize = 120;
    if let Some(unknown) = unknown_of(value) {
        return format!("unknown ({unknown})");
    }
    let text = match value.kind() {
        ValueKind::None | ValueKind::Undefined => "null".into(),
        ValueKind::Number if !value.is_integer() => f64::try_from(value.clone()).map_or_else(|_| value.to_string(), show_number),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => serde_json::to_string(&value).unwrap_or_else(|_| value.to_string()),
        _ => text_of(value),
    };
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

/// Formats a number with four significant digits, without trailing zeros.
fn show_number(number: f64) -> String {
    let magnitude = number.abs();
    if number == 0.0 || !(1e-6..1e15).contains(&magnitude) {
        return format!("{number}");
    }
    let mut decimals = 3;
    let mut limit = 10.0;
    while decimals > 0 && magnitude >= limit {
        decimals -= 1;
        limit *= 10.0;
    }
    let mut low = 1.0;
    while magnitude < low && decimals < 9 {
        decimals += 1;
        low /= 10.0;
    }
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Converts a value to JSON. If any part of the value is unknown, the whole result is unknown.
pub(super) fn to_json(value: &Value) -> Result<serde_json::Value, Unknown> {
    if let Some(unknown) = unknown_of(value) {
        return Err(unknown.clone());
    }
    let failed = |problem: String| Unknown::new(UnknownReason::Failed, problem);
    match value.kind() {
        ValueKind::None | ValueKind::Undefined => Ok(serde_json::Value::Null),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|error| failed(error.to_string()))?;
            items.map(|item| to_json(&item)).collect::<Result<Vec<_>, _>>().map(serde_json::Value::Array)
        }
        ValueKind::Map => {
            let mut map = serde_json::Map::new();
            for key in value.try_iter().map_err(|error| failed(error.to_string()))? {
                let item = value.get_item(&key).map_err(|error| failed(error.to_string()))?;
                map.insert(key.as_str().map_or_else(|| key.to_string(), str::to_owned), to_json(&item)?);
            }
            Ok(serde_json::Value::Object(map))
        }
        _ => serde_json::to_value(value).map_err(|error| failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_four_digits() {
        let cases = [(0.412_345, "0.4123"), (412.0, "412"), (1_234.567, "1235"), (0.000_123_45, "0.0001234"), (2.5, "2.5"), (0.0, "0")];
        for (number, shown) in cases {
            assert_eq!(show(&Value::from(number)), shown);
        }
    }

    #[test]
    fn a_mark_inside_makes_the_whole_json_unknown() {
        let list = Value::from(vec![Value::from(1), unavailable("gone")]);
        assert_eq!(to_json(&list).unwrap_err().reason, "gone");
        assert_eq!(unknown_item(&list).unwrap().why, UnknownReason::Unavailable);
    }
}
