//! Strict comparisons: of two values of one type, and ordered ones of two numbers alone.

use std::cmp::Ordering;

use minijinja::value::ValueKind;

use super::ast::Comparison;
use super::value::{is_list, is_map, show, type_name, unknown_item, unknown_of};
use super::{Unknown, Value};

/// Why two values cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mismatch {
    LeftNull,
    RightNull,
    /// Values of two types.
    Unlike,
    /// Of one type, but `<` orders numbers only.
    NotOrdered,
    /// `in` something that holds nothing.
    NoContainer,
    NotANumber,
    /// A part that is unknown itself.
    Unknown(Box<Unknown>),
}

impl Mismatch {
    /// In words; both sides as they are written, with their values.
    pub(super) fn reason(&self, op: Comparison, left: (&str, &Value), right: (&str, &Value)) -> String {
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

    /// What to write instead.
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

/// `text` alone for a constant, `text ("931GiB")` for what has a value of its own.
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

pub(super) fn compare(op: Comparison, left: &Value, right: &Value) -> Result<bool, Mismatch> {
    if let Some(unknown) = unknown_of(left).or_else(|| unknown_of(right)) {
        return Err(Mismatch::Unknown(Box::new(unknown.clone())));
    }
    if left.is_none() || left.is_undefined() {
        return Err(Mismatch::LeftNull);
    }
    if right.is_none() || right.is_undefined() {
        return Err(Mismatch::RightNull);
    }
    match op {
        Comparison::Eq => equal(left, right),
        Comparison::Ne => equal(left, right).map(|equal| !equal),
        Comparison::Lt => order(left, right).map(Ordering::is_lt),
        Comparison::Le => order(left, right).map(Ordering::is_le),
        Comparison::Gt => order(left, right).map(Ordering::is_gt),
        Comparison::Ge => order(left, right).map(Ordering::is_ge),
        Comparison::In => contains(left, right),
        Comparison::NotIn => contains(left, right).map(|found| !found),
    }
}

/// Equality of two known values of one type.
pub(super) fn equal(left: &Value, right: &Value) -> Result<bool, Mismatch> {
    match (class(left), class(right)) {
        (Class::Number, Class::Number) => order(left, right).map(Ordering::is_eq),
        (Class::List, Class::List) => {
            if let Some(unknown) = unknown_item(left).or_else(|| unknown_item(right)) {
                return Err(Mismatch::Unknown(Box::new(unknown)));
            }
            Ok(left == right)
        }
        (a, b) if a == b => Ok(left == right),
        _ => Err(Mismatch::Unlike),
    }
}

fn order(left: &Value, right: &Value) -> Result<Ordering, Mismatch> {
    match (class(left), class(right)) {
        (Class::Number, Class::Number) => {}
        (a, b) if a == b => return Err(Mismatch::NotOrdered),
        _ => return Err(Mismatch::Unlike),
    }
    // Ids of etcd members exceed 2^53: whole numbers are compared as such.
    if left.is_integer()
        && right.is_integer()
        && let (Ok(a), Ok(b)) = (i128::try_from(left.clone()), i128::try_from(right.clone()))
    {
        return Ok(a.cmp(&b));
    }
    let (a, b) = (number(left).ok_or(Mismatch::NotANumber)?, number(right).ok_or(Mismatch::NotANumber)?);
    a.partial_cmp(&b).ok_or(Mismatch::NotANumber)
}

/// Three-valued: an equal item decides; without one, an item that cannot be compared leaves it open.
fn contains(needle: &Value, hay: &Value) -> Result<bool, Mismatch> {
    if let Some(text) = hay.as_str() {
        return needle.as_str().map(|needle| text.contains(needle)).ok_or(Mismatch::Unlike);
    }
    if is_map(hay) {
        return Ok(hay.get_item(needle).is_ok_and(|found| !found.is_undefined()));
    }
    if !is_list(hay) {
        return Err(Mismatch::NoContainer);
    }
    let mut open = None;
    for item in hay.try_iter().map_err(|_| Mismatch::NoContainer)? {
        match compare(Comparison::Eq, needle, &item) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(mismatch) => open = open.or(Some(mismatch)),
        }
    }
    open.map_or(Ok(false), Err)
}

/// The types that can be compared with one another.
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

/// A number as such; never one made of a truth value.
pub(super) fn number(value: &Value) -> Option<f64> {
    if value.kind() == ValueKind::Number { f64::try_from(value.clone()).ok() } else { None }
}
