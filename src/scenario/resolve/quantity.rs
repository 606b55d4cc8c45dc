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
    match text {
        "majority" => return Ok(Pick::Majority),
        "minority" => return Ok(Pick::Minority),
        _ => (),
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
        Err(_) => Err("expected a number, a percentage such as `50%`, `majority`, `minority` or `all`".to_owned()),
    }
}

/// `10`, `2.5%`: 0 to 100.
///
/// # Errors
/// What was expected.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>();
    match number {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        Ok(_) => Err("expected at least 0 and at most 100".to_owned()),
        Err(_) => Err("expected a percentage such as `10` or `2.5%`".to_owned()),
    }
}

/// `10mbit` (bits), `1MiB/s` (bytes): bytes a second.
///
/// # Errors
/// What was expected.
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

/// `5m`, `-30s`: microseconds.
///
/// # Errors
/// With advice on how to write it.
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
        assert_eq!((percent("2.5%"), percent(" 100")), (Ok(2.5), Ok(100.0)));
        assert!(percent("101").is_err() && percent("-1%").is_err() && percent("half").is_err());
        assert_eq!((rate("8mbit"), rate("1MiB/s"), rate("2.4kbit").is_err()), (Ok(1e6), Ok(1_048_576.0), true));
        assert_eq!((offset("-30s"), offset("5m")), (Ok(-30_000_000), Ok(300_000_000)));
        assert!(pick("0").is_err() && pick("101%").is_err() && pick("some").is_err());
    }
}
