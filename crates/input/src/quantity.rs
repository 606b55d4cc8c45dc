//! Parsing of durations, sizes, counts and percentages in human notation, such as `1m 30s` or `512MiB`.

use std::time::Duration;

use serde::Serializer;

/// Longest accepted duration: 1000 days. The limit ensures that sums of durations do not overflow.
const LONGEST: Duration = Duration::from_secs(1000 * 24 * 3600);

/// Parses a duration such as `500ms`, `2s`, `1m 30s` or `0s`.
///
/// # Errors
/// Returns a sentence with the expected notation if the text is not a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    let advice = || match text.trim().parse::<f64>() {
        // A number without a unit is ambiguous.
        Ok(number) => format!("give the unit: `{number}s` or `{number}ms`"),
        Err(_) => "units: ms, s, m, h".to_owned(),
    };
    // The parser also knows `M` for months, which is a million in numbers of tokens.
    let mut units = text.split(|letter: char| !letter.is_alphabetic());
    if units.any(|unit| unit.starts_with(['M', 'y']) || unit.starts_with("mo")) {
        return Err(advice());
    }
    match humantime::parse_duration(text.trim()) {
        Ok(value) if value <= LONGEST => Ok(value),
        Ok(_) => Err("at most 1000 days".to_owned()),
        Err(_) => Err(advice()),
    }
}

/// Serializes a duration in human notation, such as `500ms` or `1m 30s`.
///
/// # Errors
/// Returns the errors of the serializer.
pub fn serialize_duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*value))
}

/// Parses a number of bytes such as `512MiB`, `1GB` or `4096`.
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

/// Parses a number such as `200k`, `1M` or `50`.
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

/// Parses a percentage such as `10` or `2.5%`, from 0 to 100.
///
/// # Errors
/// Returns a sentence with the expected notation if the text is not a percentage from 0 to 100.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>();
    match number {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        Ok(_) => Err("expected at least 0 and at most 100".to_owned()),
        Err(_) => Err("expected a percentage such as `10` or `2.5%`".to_owned()),
    }
}

/// Parses a rate such as `10mbit` (bits per second) or `1MiB/s`. Returns bytes per second.
///
/// # Errors
/// Returns a sentence with the expected notation if the text is not a rate.
pub fn rate(text: &str) -> Result<f64, String> {
    let expected = || "expected bits or bytes a second such as `10mbit` or `1MiB/s`".to_owned();
    let text = text.trim();
    let value = if let Some(bytes) = text.strip_suffix("/s") {
        #[expect(clippy::cast_precision_loss, reason = "no link is that fast")]
        let bytes = size(bytes).ok_or_else(expected)? as f64;
        bytes
    } else {
        let letters = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(expected)?;
        let number: f64 = text[..letters].trim().parse().map_err(|_| expected())?;
        let bits = match &text[letters..] {
            "bit" => 1.0,
            "kbit" => 1e3,
            "mbit" | "Mbit" => 1e6,
            "gbit" | "Gbit" => 1e9,
            _ => return Err(expected()),
        };
        number * bits / 8.0
    };
    if (1000.0..=1e11).contains(&value) { Ok(value) } else { Err("expected at least 8kbit and at most 800gbit".to_owned()) }
}

/// Parses a clock offset such as `5m` or `-30s`. Returns microseconds.
///
/// # Errors
/// Returns a sentence with the expected notation if the text is not an offset.
pub fn offset(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let (sign, rest) = text.strip_prefix('-').map_or((1, text.trim_start_matches('+')), |rest| (-1, rest));
    let micros = i64::try_from(duration(rest)?.as_micros()).unwrap_or(i64::MAX);
    Ok(sign * micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_in_human_notation() {
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5"), Err("give the unit: `5s` or `5ms`".to_owned()));
        for unit in ["9 parsecs", "1M", "2 months", "1y"] {
            assert_eq!(duration(unit), Err("units: ms, s, m, h".to_owned()));
        }
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("99999999999999999999"), None);
        assert_eq!(size("1 bushel"), None);
        assert_eq!(count("200k"), Some(200_000));
        assert_eq!((percent("2.5%"), percent(" 100")), (Ok(2.5), Ok(100.0)));
        assert!(percent("101").is_err() && percent("-1%").is_err() && percent("half").is_err());
        assert_eq!((rate("8mbit"), rate("1MiB/s"), rate("2.4kbit").is_err()), (Ok(1e6), Ok(1_048_576.0), true));
        assert_eq!((offset("-30s"), offset("5m")), (Ok(-30_000_000), Ok(300_000_000)));
    }
}
