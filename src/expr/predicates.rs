//! Tests: `x is none`, `selectattr('state', 'eq', 'Up')`. All strict: what is not known is not tested.

use std::ops::Range;

use minijinja::value::ValueKind;

use super::ast::Comparison;
use super::compare::{Mismatch, compare, number};
use super::eval::{Evaluation, Known};
use super::value::{show, type_name};
use super::{Unknown, Value, Why};

impl Evaluation<'_> {
    pub(super) fn test(&mut self, name: &str, value: Known<Value>, arguments: &[Value], range: &Range<usize>) -> Known<bool> {
        self.step(range)?;
        // These two ask about absence itself; a probe that failed answers neither.
        match (name, &value) {
            ("defined", Err(unknown)) if unknown.why == Why::Absent => return Ok(false),
            ("undefined", Err(unknown)) if unknown.why == Why::Absent => return Ok(true),
            _ => {}
        }
        let value = value?;
        match name {
            "defined" => return Ok(true),
            "undefined" => return Ok(false),
            "none" => return Ok(value.is_none()),
            _ if value.is_none() => {
                return Err(Unknown::at(Why::Null, range, format!("`{}` tests null", self.written(range))));
            }
            _ => {}
        }
        let comparison = match name {
            "eq" | "equalto" | "==" => Some(Comparison::Eq),
            "ne" | "!=" => Some(Comparison::Ne),
            "lt" | "<" => Some(Comparison::Lt),
            "le" | "<=" => Some(Comparison::Le),
            "gt" | ">" => Some(Comparison::Gt),
            "ge" | ">=" => Some(Comparison::Ge),
            "in" => Some(Comparison::In),
            _ => None,
        };
        let words = |problem: &str| Unknown::at(Why::Types, range, format!("`{}` {problem}", self.written(range)));
        let argument = || arguments.first().ok_or_else(|| Unknown::at(Why::Failed, range, format!("the test `{name}` needs an argument")));
        if let Some(op) = comparison {
            let right = argument()?;
            return compare(op, &value, right).map_err(|mismatch| {
                let why = match mismatch {
                    Mismatch::LeftNull | Mismatch::RightNull => Why::Null,
                    Mismatch::Unknown(ref inner) => inner.why,
                    _ => Why::Types,
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
            _ => return Err(Unknown::at(Why::Failed, range, format!("unknown test `{name}`"))),
        })
    }
}
