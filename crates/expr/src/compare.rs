//! Strict comparisons: equality of two values of the same type, and order of two numbers.

use std::cmp::Ordering;

use minijinja::value::ValueKind;

use super::ast::ComparisonOperator;
use super::value::{is_list, is_map, show, type_name, unknown_item, unknown_of};
use super::{Unknown, Value};

/// Reason why two values cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IncomparableValues {
    LeftNull,
    RightNull,
    /// The two values have different types.
    Unlike,
    /// The two values have the same type, but only numbers can be compared with `<`, `<=`, `>` and `>=`.
    NotOrdered,
    /// The right side of `in` is neither text nor a list nor a map.
    NoContainer,
    NotANumber,
    /// One of the compared values contains a part that is unknown.
    Unknown(Box<Unknown>),
}

impl IncomparableValues {
    /// Describes the reason in words. `left` and `right` each contain the text of a side and its value.
    pub(super) fn reason(&self, op: ComparisonOperator, left: (&str, &Value), right: (&str, &Value)) -> String {
        let written = format!("`{} {} {}`", left.0, op.as_str(), right.0);
        match self {
            Self::LeftNull => format!("`{}` is null", left.0),
            Self::RightNull => format!("`{}` is null", right.0),
            Self::Unlike => format!("{written} compares {} with {}", describe(left), describe(right)),
            Self::NotOrdered => format!("{written} orders {}, expected numbers", type_name(left.1)),
            Self::NoContainer => format!("{written} looks into {}, expected a list, an object or text", type_name(right.1)),
            Self::NotANumber => format!("{written} compares with what is not a number"),
            Self::Unknown(unknown) => unknown.reason.clone(),
        }
    }

    /// Suggests a notation that makes the comparison valid, such as `size('931GiB')`. Returns `None` if no side is a quantity in text form.
    pub(super) fn help(&self, left: &Value, right: &Value) -> Option<String> {
        let quantity = [left, right].into_iter().find_map(|value| value.as_str());
        match (self, quantity) {
            (Self::Unlike | Self::NotOrdered, Some(text)) if super::units::bytes(text).is_some() && text.contains('B') => {
                Some(format!("as a number of bytes: `size('{text}')`, or `... | bytes`"))
            }
            (Self::Unlike | Self::NotOrdered, Some(text)) if super::units::seconds(text).is_some() => {
                Some(format!("as a number of seconds: `dur('{text}')`, or `... | seconds`"))
            }
            _ => None,
        }
    }
}

/// Describes one side of a comparison. Constants and collections are described by their type, such as `text`. Other expressions are
/// described by type and value, such as `text ("931GiB")`.
fn describe((written, value): (&str, &Value)) -> String {
    let kind = type_name(value);
    let shown = show(value);
    if written == shown || written.trim_matches(['\'', '"']) == shown || is_list(value) || is_map(value) {
        kind.to_owned()
    } else if value.as_str().is_some() {
        format!("{kind} ({shown:?})")
    } else {
        format!("{kind} ({shown})")
    }
}

pub(super) fn compare(op: ComparisonOperator, left: &Value, right: &Value) -> Result<bool, IncomparableValues> {
    if let Some(unknown) = unknown_of(left).or_else(|| unknown_of(right)) {
        return Err(IncomparableValues::Unknown(Box::new(unknown.clone())));
    }
    if left.is_none() || left.is_undefined() {
        return Err(IncomparableValues::LeftNull);
    }
    if right.is_none() || right.is_undefined() {
        return Err(IncomparableValues::RightNull);
    }
    match op {
        ComparisonOperator::Eq => equal(left, right),
        ComparisonOperator::Ne => equal(left, right).map(|equal| !equal),
        ComparisonOperator::Lt => order(left, right).map(Ordering::is_lt),
        ComparisonOperator::Le => order(left, right).map(Ordering::is_le),
        ComparisonOperator::Gt => order(left, right).map(Ordering::is_gt),
        ComparisonOperator::Ge => order(left, right).map(Ordering::is_ge),
        ComparisonOperator::In => contains(left, right),
        ComparisonOperator::NotIn => contains(left, right).map(|found| !found),
    }
}

/// Compares two known values of the same type for equality.
pub(super) fn equal(left: &Value, right: &Value) -> Result<bool, IncomparableValues> {
    match (class(left), class(right)) {
        (Class::Number, Class::Number) => order(left, right).map(Ordering::is_eq),
        (Class::List, Class::List) => {
            if let Some(unknown) = unknown_item(left).or_else(|| unknown_item(right)) {
                return Err(IncomparableValues::Unknown(Box::new(unknown)));
            }
            Ok(left == right)
        }
        (a, b) if a == b => Ok(left == right),
        _ => Err(IncomparableValues::Unlike),
    }
}

fn order(left: &Value, right: &Value) -> Result<Ordering, IncomparableValues> {
    match (class(left), class(right)) {
        (Class::Number, Class::Number) => {}
        (a, b) if a == b => return Err(IncomparableValues::NotOrdered),
        _ => return Err(IncomparableValues::Unlike),
    }
    // Ids of etcd members exceed 2^53, so integers are compared as integers.
    if left.is_integer()
        && right.is_integer()
        && let (Ok(a), Ok(b)) = (i128::try_from(left.clone()), i128::try_from(right.clone()))
    {
        return Ok(a.cmp(&b));
    }
    let (a, b) = (number(left).ok_or(IncomparableValues::NotANumber)?, number(right).ok_or(IncomparableValues::NotANumber)?);
    a.partial_cmp(&b).ok_or(IncomparableValues::NotANumber)
}

/// Evaluates `needle in hay` with three truth values. An equal item makes the result true. Without an equal item, an item that cannot be
/// compared makes the result unknown.
fn contains(needle: &Value, hay: &Value) -> Result<bool, IncomparableValues> {
    if let Some(text) = hay.as_str() {
        return needle.as_str().map(|needle| text.contains(needle)).ok_or(IncomparableValues::Unlike);
    }
    if is_map(hay) {
        return Ok(hay.get_item(needle).is_ok_and(|found| !found.is_undefined()));
    }
    if !is_list(hay) {
        return Err(IncomparableValues::NoContainer);
    }
    let mut open = None;
    for item in hay.try_iter().map_err(|_| IncomparableValues::NoContainer)? {
        match compare(ComparisonOperator::Eq, needle, &item) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(mismatch) => open = open.or(Some(mismatch)),
        }
    }
    open.map_or(Ok(false), Err)
}

/// Class of value types that can be compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Bool,
    Number,
    Text,
    List,
    Map,
    Other,
}

fn class(value: &Value) -> Class {
    match value.kind() {
        ValueKind::Bool => Class::Bool,
        ValueKind::Number => Class::Number,
        ValueKind::String | ValueKind::Bytes => Class::Text,
        ValueKind::Seq | ValueKind::Iterable => Class::List,
        ValueKind::Map => Class::Map,
        _ => Class::Other,
    }
}

/// Returns the value as a float. Returns `None` if the value is not a number. Booleans are not numbers.
pub(super) fn number(value: &Value) -> Option<f64> {
    if value.kind() == ValueKind::Number { f64::try_from(value.clone()).ok() } else { None }
}
