//! Durations, sizes, counts and shares as people write them.

use std::time::Duration;

use crate::scenario::model::Pick;

/// A thousand days: nothing here lasts longer, and sums of such values cannot overflow.
const LONGEST: Duration = Duration::from_secs(1000 * 24 * 3600);

/// `500ms`, `2s`, `1m 30s`, `0s`.
///
/// # Errors
/// With advice on how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let advice = || match text.trim().parse::<f64>() {
        // A bare number is too easily meant in another unit.
        Ok(number) => format!("give the unit: `{number}s` or `{number}ms`"),
        Err(_) => "units: ms, s, m, h".to_owned(),
    };
    match humantime::parse_duration(text.trim()) {
        Ok(value) if value <= LONGEST => Ok(value),
        Ok(_) => Err("at most 1000 days".to_owned()),
        Err(_) => Err(advice()),
    }
}

/// `512MiB`, `1GB`, `4096`: bytes.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// `200k`, `1M`, `50`.
#[must_use]
pub fn count(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].trim() {
        "" => Some(number),
        "k" | "K" => number.checked_mul(1_000),
        "M" => number.checked_mul(1_000_000),
        _ => None,
    }
}

/// `2`, `50%`, `all`.
///
/// # Errors
/// What was expected.
pub fn pick(text: &str) -> Result<Pick, String> {
    let text = text.trim();
    if text == "all" {
        return Ok(Pick::All);
    }
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.trim().parse::<f64>() {
            Ok(value) if value > 0.0 && value <= 100.0 => Ok(Pick::Percent(value)),
            Ok(_) => Err("expected more than 0% and at most 100%".to_owned()),
            Err(_) => Err("expected a percentage such as `50%`".to_owned()),
        };
    }
    match text.parse::<usize>() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(count) => Ok(Pick::Count(count)),
        Err(_) => Err("expected a number, a percentage such as `50%`, or `all`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_as_people_write_them() {
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5"), Err("give the unit: `5s` or `5ms`".to_owned()));
        assert_eq!(duration("9 parsecs"), Err("units: ms, s, m, h".to_owned()));
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("99999999999999999999"), None);
        assert_eq!(size("1 bushel"), None);
        assert_eq!(count("200k"), Some(200_000));
        assert_eq!(pick("50%"), Ok(Pick::Percent(50.0)));
        assert!(pick("0").is_err() && pick("101%").is_err() && pick("some").is_err());
    }
}
