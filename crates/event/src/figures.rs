//! Formatting of numbers: `0.94`, `4.8s`, `3 ms`, `2,104`, `$0.00`.

use std::time::Duration;

pub fn score(score: f64) -> String {
    format!("{score:.2}")
}

/// Formats a duration in microseconds: `4.8s`, or `2h46m` for long durations.
pub fn clock(us: u64) -> String {
    let seconds = seconds(us);
    if seconds < 9_999.95 {
        return format!("{seconds:.1}s");
    }
    let minutes = us / 60_000_000;
    format!("{}h{:02}m", minutes / 60, minutes % 60)
}

/// Formats a duration in microseconds as seconds without a unit, for lists with one unit at the end.
pub fn bare_seconds(us: u64) -> String {
    format!("{:.1}", seconds(us))
}

/// Formats a duration in microseconds in the most readable unit: `0.4 ms`, `3 ms`, `1.2 s`.
pub fn short(us: u64) -> String {
    match us {
        0..1_000 => format!("{:.1} ms", seconds(us) * 1_000.0),
        1_000..1_000_000 => format!("{} ms", (us + 500) / 1_000),
        _ => format!("{:.1} s", seconds(us)),
    }
}

pub fn usd(usd: f64) -> String {
    if usd < 1_000.0 { format!("${usd:.2}") } else { format!("${usd:.0}") }
}

/// Formats a duration in microseconds as seconds with two decimals: `0.82s`.
pub fn precise(us: u64) -> String {
    let seconds = seconds(us);
    if seconds < 1_000.0 { format!("{seconds:.2}s") } else { clock(us) }
}

/// Formats a time difference in microseconds as seconds with a sign: `+0.21s`, `-1.52s`.
pub fn relative(us: i64) -> String {
    // A value that rounds to zero has no sign.
    let sign = if us <= -5_000 { '-' } else { '+' };
    format!("{sign}{}", precise(us.unsigned_abs()))
}

/// Formats a number with at most three decimals, without trailing zeros.
pub fn trimmed(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Formats a measured value in as few characters as possible.
pub fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".into(),
        serde_json::Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), trimmed),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Formats a count with thousands separators: `2,104`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a count with its noun: `1 trial`, `3 trials`.
pub fn plural(number: usize, noun: &str) -> String {
    let noun = match (number, noun.strip_suffix("sis")) {
        (1, _) => noun.to_owned(),
        (_, Some(stem)) => format!("{stem}ses"),
        (_, None) => format!("{noun}s"),
    };
    format!("{} {noun}", count(number as u64))
}

/// Formats a clock scale as the resulting speed of the clocks: `×20 (scale 0.05)`.
pub fn clock_scale(scale: f64) -> String {
    let times = (1.0 / scale * 10.0).round() / 10.0;
    format!("×{times} (scale {scale})")
}

pub fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_the_reports() {
        assert_eq!(score(0.9449), "0.94");
        assert_eq!([clock(4_840_000), clock(62_000_000), clock(10_000_000_000)], ["4.8s", "62.0s", "2h46m"]);
        assert_eq!([short(400), short(3_000), short(999_400), short(1_249_000)], ["0.4 ms", "3 ms", "999 ms", "1.2 s"]);
        assert_eq!([count(0), count(999), count(2_104), count(1_234_567)], ["0", "999", "2,104", "1,234,567"]);
        assert_eq!([relative(0), relative(210_400), relative(-1_520_000)], ["+0.00s", "+0.21s", "-1.52s"]);
        assert_eq!([trimmed(2.0), trimmed(0.5), trimmed(1.23456), trimmed(0.0)], ["2", "0.5", "1.235", "0"]);
        assert_eq!([usd(0.0), usd(0.305), usd(12_345.6)], ["$0.00", "$0.30", "$12346"]);
        assert_eq!([plural(1, "trial"), plural(1_200, "trial"), plural(2, "diagnosis")], ["1 trial", "1,200 trials", "2 diagnoses"]);
        assert_eq!([clock_scale(0.05), clock_scale(0.3)], ["×20 (scale 0.05)", "×3.3 (scale 0.3)"]);
    }
}
