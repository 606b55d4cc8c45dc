//! Parsing of seeds: `7`, `1..20` (both ends are included), `[1, 2, 3]`.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use serde_json::Value;

/// Maximum number of values of one axis of a matrix. A larger number is probably a typing error.
const MOST: u64 = 100_000;

/// Parses a range such as `1..20`. Returns `None` if the text is not a range.
///
/// # Errors
/// Returns one sentence if the range is empty or too long.
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

/// Parses seeds in the notation of the command line: `7`, `1..20` or `1,5,9`.
///
/// # Errors
/// Returns one sentence with the expected notation.
pub fn parse(text: &str) -> Result<Vec<u64>, String> {
    if let Some(range) = range(text) {
        return range.map(Iterator::collect);
    }
    let wrong = || format!("`{text}` is not a seed, expected a number or a range such as `1..20`");
    text.split(',').map(|one| one.trim().parse().map_err(|_| wrong())).collect()
}

/// Parses seeds in the notation of a file: `7`, `1..20` or `[1, 5, 9]`.
///
/// # Errors
/// Returns one sentence if a seed is invalid, if there is no seed, or if a seed occurs twice.
pub fn listed(value: &Value) -> Result<Vec<u64>, String> {
    let seeds = match value {
        Value::String(text) => parse(text)?,
        Value::Number(_) => vec![value.as_u64().ok_or_else(|| format!("`{value}` is not a seed"))?],
        Value::Array(items) if items.is_empty() => return Err("the list contains no seed".to_owned()),
        Value::Array(items) => {
            items.iter().map(|item| item.as_u64().ok_or_else(|| format!("`{item}` is not a seed"))).collect::<Result<_, _>>()?
        }
        other => return Err(format!("`{other}` is not a seed")),
    };
    let mut seen = HashSet::new();
    match seeds.iter().find(|seed| !seen.insert(**seed)) {
        Some(twice) => Err(format!("seed {twice} is listed twice")),
        None => Ok(seeds),
    }
}

/// Returns the values of an axis of the matrix, which is written as a list or as a range.
///
/// # Errors
/// Returns one sentence if the value is neither a list nor a range, or if it is empty.
pub(crate) fn axis(value: &Value) -> Result<Vec<Value>, String> {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_are_inclusive_and_bounded() {
        assert_eq!(parse("1..3"), Ok(vec![1, 2, 3]));
        assert_eq!(parse("7..7"), Ok(vec![7]));
        assert_eq!(parse("1, 5"), Ok(vec![1, 5]));
        assert!(parse("3..1").is_err() && parse("0..18446744073709551615").is_err() && parse("x").is_err());
        assert_eq!(axis(&json!("1..2")), Ok(vec![1.into(), 2.into()]));
        assert!(axis(&json!([])).is_err());
        assert_eq!(listed(&json!([3, 1])), Ok(vec![3, 1]));
        assert!([json!([1, 1]), json!([]), json!(-1), json!(null), json!([1.5])].iter().all(|wrong| listed(wrong).is_err()));
    }
}
