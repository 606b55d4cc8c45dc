//! Tests of values, such as `x is none` or `selectattr('state', 'eq', 'Up')`. The result of a test on an unknown value is unknown.

use std::ops::Range;

use minijinja::value::ValueKind;

use super::ast::ComparisonOperator;
use super::compare::{IncomparableValues, compare, number};
use super::eval::{Evaluation, KnownNames};
use super::value::{show, type_name};
use super::{Unknown, UnknownReason, Value};

impl Evaluation<'_> {
    pub(super) fn test(&mut self, name: &str, value: KnownNames<Value>, arguments: &[Value], range: &Range<usize>) -> KnownNames<bool> {
        self.step(range)?;
        // These two tests are about absence itself; a failed probe makes them unknown too.
        match (name, &value) {
            ("defined", Err(unknown)) if unknown.why == UnknownReason::Absent => return Ok(false),
            ("undefined", Err(unknown)) if unknown.why == UnknownReason::Absent => return Ok(true),
            _ => {}
        }
        let value = value?;
        match name {
            "defined" => return Ok(true),
            "undefined" => return Ok(false),
            "none" => return Ok(value.is_none()),
            _ if value.is_none() => {
                return Err(Unknown::at(UnknownReason::Null, range, format!("`{}` tests null", self.written(range))));
            }
            _ => {}
        }
        let comparison = match name {
            "eq" | "equalto" | "==" => Some(ComparisonOperator::Eq),
            "ne" | "!=" => Some(ComparisonOperator::Ne),
            "lt" | "<" => Some(ComparisonOperator::Lt),
            "le" | "<=" => Some(ComparisonOperator::Le),
            "gt" | ">" => Some(ComparisonOperator::Gt),
            "ge" | ">=" => Some(ComparisonOperator::Ge),
            "in" => Some(ComparisonOperator::In),
            _ => None,
        };
        let words = |problem: &str| Unknown::at(UnknownReason::Types, range, format!("`{}` {problem}", self.written(range)));
        let argument =
            || arguments.first().ok_or_else(|| Unknown::at(UnknownReason::Failed, range, format!("the test `{name}` needs an argument")));
        if let Some(op) = comparison {
            let right = argument()?;
            return compare(op, &value, right).map_err(|mismatch| {
                let why = match mismatch {
                    IncomparableValues::LeftNull | IncomparableValues::RightNull => UnknownReason::Null,
                    IncomparableValues::Unknown(ref inner) => inner.why,
                    _ => UnknownReason::Types,
                };
                let (left_text, right_text) = (show(&value), show(right));
                Unknown::at(why, range, mismatch.reason(op, (&left_text, &value), (&right_text, right)))
            });
        }
        let kind = value.kind();
        Ok(match name {
            "boolean" => kind == ValueKind::Bool,
            "number" => kind == ValueKind::Number,
            "integer" => value.is_integer(),
            "float" => kind == ValueKind::Number && !value.is_integer(),
            "string" => kind == ValueKind::String,
            "mapping" => kind == ValueKind::Map,
            "sequence" | "iterable" => matches!(kind, ValueKind::Seq | ValueKind::Iterable),
            "true" | "false" if kind == ValueKind::Bool => value.is_true() == (name == "true"),
            "true" | "false" => return Err(words(&format!("asks that of {}", type_name(&value)))),
            "odd" | "even" => match value.as_i64() {
                Some(whole) => (whole.rem_euclid(2) == 0) == (name == "even"),
                None => return Err(words(&format!("asks that of {}, expected a whole number", type_name(&value)))),
            },
            "divisibleby" => match (number(&value), number(argument()?)) {
                (Some(a), Some(b)) if b != 0.0 => a % b == 0.0,
                _ => return Err(words("divides what are not numbers")),
            },
            "startingwith" | "endingwith" => match (value.as_str(), argument()?.as_str()) {
                (Some(text), Some(part)) if name == "startingwith" => text.starts_with(part),
                (Some(text), Some(part)) => text.ends_with(part),
                _ => return Err(words("compares what are not texts")),
            },
            _ => return Err(Unknown::at(UnknownReason::Failed, range, format!("unknown test `{name}`"))),
        })
    }
}
