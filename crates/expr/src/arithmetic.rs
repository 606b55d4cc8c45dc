//! Arithmetic on numbers, and concatenation of texts and of lists.

use std::ops::Range;

use super::ast::ArithmeticOperation;
use super::compare::number;
use super::value::{is_list, is_map, text_of, type_name, unknown_item};
use super::{Unknown, UnknownReason, Value};

/// Evaluates an arithmetic operation. `range` is the range of the operation in the expression, and `written` is its text.
pub(super) fn arithmetic(
    operation: ArithmeticOperation,
    left: &Value,
    right: &Value,
    range: &Range<usize>,
    written: &str,
) -> Result<Value, Box<Unknown>> {
    if left.is_none() || right.is_none() {
        return Err(Unknown::at(UnknownReason::Null, range, format!("`{written}` uses null in a computation")));
    }
    if operation == ArithmeticOperation::Concat {
        return concat(left, right, range, written);
    }
    if operation == ArithmeticOperation::Add {
        if let (Some(left), Some(right)) = (left.as_str(), right.as_str()) {
            return Ok(Value::from(format!("{left}{right}")));
        }
        if is_list(left) && is_list(right) {
            let items = left.try_iter().into_iter().flatten().chain(right.try_iter().into_iter().flatten());
            return Ok(items.collect::<Vec<_>>().into());
        }
    }
    let (Some(a), Some(b)) = (number(left), number(right)) else {
        let words = format!("`{written}` applies `{}` to {} and {}", operation.as_str(), type_name(left), type_name(right));
        return Err(Unknown::at(UnknownReason::Types, range, words));
    };
    if left.is_integer()
        && right.is_integer()
        && let Some(whole) = whole(operation, left, right)
    {
        return Ok(whole);
    }
    let result = match operation {
        ArithmeticOperation::Add => a + b,
        ArithmeticOperation::Sub => a - b,
        ArithmeticOperation::Mul => a * b,
        ArithmeticOperation::Div => a / b,
        ArithmeticOperation::FloorDiv => (a / b).floor(),
        ArithmeticOperation::Rem => a.rem_euclid(b),
        ArithmeticOperation::Pow => a.powf(b),
        ArithmeticOperation::Concat => f64::NAN,
    };
    if result.is_finite() {
        Ok(Value::from(result))
    } else {
        Err(Unknown::at(UnknownReason::Undecided, range, format!("`{written}` is not a number: {a} {} {b}", operation.as_str())))
    }
}

/// Computes the operation on two whole numbers. Returns `None` if the result is not a whole number, so that the caller uses floats.
fn whole(operation: ArithmeticOperation, left: &Value, right: &Value) -> Option<Value> {
    let (a, b) = (i128::try_from(left.clone()).ok()?, i128::try_from(right.clone()).ok()?);
    let result = match operation {
        ArithmeticOperation::Add => a.checked_add(b)?,
        ArithmeticOperation::Sub => a.checked_sub(b)?,
        ArithmeticOperation::Mul => a.checked_mul(b)?,
        ArithmeticOperation::FloorDiv => a.checked_div_euclid(b)?,
        ArithmeticOperation::Rem => a.checked_rem_euclid(b)?,
        ArithmeticOperation::Pow => a.checked_pow(u32::try_from(b).ok()?)?,
        ArithmeticOperation::Div | ArithmeticOperation::Concat => return None,
    };
    Some(i64::try_from(result).map_or_else(|_| Value::from(result), Value::from))
}

fn concat(left: &Value, right: &Value, range: &Range<usize>, written: &str) -> Result<Value, Box<Unknown>> {
    for side in [left, right] {
        if is_list(side) || is_map(side) {
            let words = format!("`{written}` joins {} as text; use `| join(',')` or `| tojson`", type_name(side));
            return Err(Unknown::at(UnknownReason::Types, range, words));
        }
        if let Some(unknown) = unknown_item(side) {
            return Err(Box::new(Unknown { range: range.clone(), ..unknown }));
        }
    }
    Ok(Value::from(text_of(left) + &text_of(right)))
}
