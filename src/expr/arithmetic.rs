//! Arithmetic on numbers, and the joining of texts and of lists.

use std::ops::Range;

use super::ast::Operation;
use super::compare::number;
use super::value::{is_list, is_map, text_of, type_name, unknown_item};
use super::{Unknown, Value, Why};

/// `range` is that of the whole operation, `written` its text.
pub(super) fn arithmetic(
    operation: Operation,
    left: &Value,
    right: &Value,
    range: &Range<usize>,
    written: &str,
) -> Result<Value, Box<Unknown>> {
    if left.is_none() || right.is_none() {
        return Err(Unknown::at(Why::Null, range, format!("`{written}` computes with null")));
    }
    if operation == Operation::Concat {
        return concat(left, right, range, written);
    }
    if operation == Operation::Add {
        if let (Some(left), Some(right)) = (left.as_str(), right.as_str()) {
            return Ok(Value::from(format!("{left}{right}")));
        }
        if is_list(left) && is_list(right) {
            let items = left.try_iter().into_iter().flatten().chain(right.try_iter().into_iter().flatten());
            return Ok(items.collect::<Vec<_>>().into());
        }
    }
    let (Some(a), Some(b)) = (number(left), number(right)) else {
        let words = format!("`{written}` computes `{}` of {} and {}", operation.as_str(), type_name(left), type_name(right));
        return Err(Unknown::at(Why::Types, range, words));
    };
    if left.is_integer()
        && right.is_integer()
        && let Some(whole) = whole(operation, left, right)
    {
        return Ok(whole);
    }
    let result = match operation {
        Operation::Add => a + b,
        Operation::Sub => a - b,
        Operation::Mul => a * b,
        Operation::Div => a / b,
        Operation::FloorDiv => (a / b).floor(),
        Operation::Rem => a.rem_euclid(b),
        Operation::Pow => a.powf(b),
        Operation::Concat => f64::NAN,
    };
    if result.is_finite() {
        Ok(Value::from(result))
    } else {
        Err(Unknown::at(Why::Undecided, range, format!("`{written}` is not a number: {a} {} {b}", operation.as_str())))
    }
}

/// Of whole numbers, when the result is one; otherwise floats decide.
fn whole(operation: Operation, left: &Value, right: &Value) -> Option<Value> {
    let (a, b) = (i128::try_from(left.clone()).ok()?, i128::try_from(right.clone()).ok()?);
    let result = match operation {
        Operation::Add => a.checked_add(b)?,
        Operation::Sub => a.checked_sub(b)?,
        Operation::Mul => a.checked_mul(b)?,
        Operation::FloorDiv => a.checked_div_euclid(b)?,
        Operation::Rem => a.checked_rem_euclid(b)?,
        Operation::Pow => a.checked_pow(u32::try_from(b).ok()?)?,
        Operation::Div | Operation::Concat => return None,
    };
    Some(i64::try_from(result).map_or_else(|_| Value::from(result), Value::from))
}

fn concat(left: &Value, right: &Value, range: &Range<usize>, written: &str) -> Result<Value, Box<Unknown>> {
    for side in [left, right] {
        if is_list(side) || is_map(side) {
            let words = format!("`{written}` joins {} as text; use `| join(',')` or `| tojson`", type_name(side));
            return Err(Unknown::at(Why::Types, range, words));
        }
        if let Some(unknown) = unknown_item(side) {
            return Err(Box::new(Unknown { range: range.clone(), ..unknown }));
        }
    }
    Ok(Value::from(text_of(left) + &text_of(right)))
}
