//! Seeds as they are given: `7`, `1..20` (inclusive), `[1, 2, 3]`.

use std::ops::RangeInclusive;

use serde_json::Value;

/// More values of one axis than this are a typing error.
const MOST: u64 = 100_000;

/// Reads `1..20`; none when the text is no range at all.
///
/// # Errors
/// The range is empty, or longer than anybody waits for.
#[must_use]
pub fn range(text: &str) -> Option<Result<RangeInclusive<u64>, String>> {
    let (from, to) = text.split_once("..")?;
    let (Ok(from), Ok(to)) = (from.trim().parse::<u64>(), to.trim().trim_start_matches('=').parse::<u64>()) else { return None };
    Some(if from > to {
        Err(format!("the range `{text}` is empty: it goes from {from} up to {to}"))
    } else if to - from >= MOST {
        Err(format!("the range `{text}` has more than {MOST} values"))
    } else {
        Ok(from..=to)
    })
}

/// Reads `7`, `1..20` or `1,5,9`.
///
/// # Errors
/// In one sentence, with what was expected.
pub fn parse(text: &str) -> Result<Vec<u64>, String> {
    if let Some(range) = range(text) {
        return range.map(Iterator::collect);
    }
    let wrong = || format!("`{text}` is no seed, expected a number or a range such as `1..20`");
    text.split(',').map(|one| one.trim().parse().map_err(|_| wrong())).collect()
}

/// The values of an axis of the matrix.
///
/// # Errors
/// In one sentence: no list, no range, or nothing in it.
pub fn axis(value: &Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) if items.is_empty() => Err("this axis has no values".to_owned()),
        Value::Array(items) => Ok(items.clone()),
        Value::String(text) => match range(text) {
            Some(range) => range.map(|range| range.map(Value::from).collect()),
            None => Err(format!("`{text}` is neither a list nor a range such as `1..20`")),
        },
        Value::Null => Err("this axis has no values".to_owned()),
        other => Err(format!("`{other}` is neither a list nor a range such as `1..20`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive_and_bounded() {
        assert_eq!(parse("1..3"), Ok(vec![1, 2, 3]));
        assert_eq!(parse("7..7"), Ok(vec![7]));
        assert_eq!(parse("1, 5"), Ok(vec![1, 5]));
        assert!(parse("3..1").is_err() && parse("0..18446744073709551615").is_err() && parse("x").is_err());
        assert_eq!(axis(&serde_json::json!("1..2")), Ok(vec![1.into(), 2.into()]));
        assert!(axis(&serde_json::json!([])).is_err());
    }
}
