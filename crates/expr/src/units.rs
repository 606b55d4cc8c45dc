//! Parsing of quantities in the notations of people and programs: durations, including those of Go, and sizes with binary and decimal
//! units.

/// Parses a duration such as `30m0s`, `1h0m10.5s`, `1m 30s`, `500ms`, `1.5h` or `2 days`, and returns seconds. Returns `None` if the text
/// is not a duration. As in Go, `0` is the only number that needs no unit.
#[must_use]
pub fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    if text == "0" {
        return Some(0.0);
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut total = 0.0;
    let mut parts = 0;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let (number, after) = leading_number(rest)?;
        let after = after.trim_start();
        let unit_end = after.find(|letter: char| !letter.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total += number * unit_seconds(unit)?;
        parts += 1;
        rest = after;
    }
    (parts > 0).then_some(sign * total)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" | "nsec" => 1e-9,
        "us" | "µs" | "μs" | "usec" => 1e-6,
        "ms" | "msec" | "millis" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    })
}

/// Parses a size such as `931.5GiB`, `64 MiB`, `200k`, `1.5GB`, `17B` or `17`, and returns bytes. Returns `None` if the text is not a size.
#[must_use]
pub fn bytes(text: &str) -> Option<f64> {
    let (number, unit) = leading_number(text.trim())?;
    let unit = unit.trim();
    let lower = unit.to_ascii_lowercase();
    let (power, binary) = match lower.as_str() {
        "" | "b" | "byte" | "bytes" => (0, false),
        "k" | "kb" => (1, false),
        "m" | "mb" => (2, false),
        "g" | "gb" => (3, false),
        "t" | "tb" => (4, false),
        "p" | "pb" => (5, false),
        "ki" | "kib" => (1, true),
        "mi" | "mib" => (2, true),
        "gi" | "gib" => (3, true),
        "ti" | "tib" => (4, true),
        "pi" | "pib" => (5, true),
        _ => return None,
    };
    let base: f64 = if binary { 1_024.0 } else { 1_000.0 };
    Some(number * base.powi(power))
}

/// Splits off the unsigned decimal number at the start of the text. Returns the number and the rest of the text.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != '_').unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number = digits.replace('_', "").parse::<f64>().ok()?;
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_go_and_human_notation() {
        let cases = [
            ("30m0s", Some(1_800.0)),
            ("1h0m10.5s", Some(3_610.5)),
            ("72h3m12.5s", Some(259_392.5)),
            ("1m 30s", Some(90.0)),
            ("20s", Some(20.0)),
            ("500ms", Some(0.5)),
            ("-1.5h", Some(-5_400.0)),
            ("2 days", Some(172_800.0)),
            ("0", Some(0.0)),
            ("5", None),
            ("", None),
            ("fast", None),
            ("3 apples", None),
            ("1..5s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text).map(|s| (s * 1e6).round()), expected.map(|s| s * 1e6), "{text}");
        }
    }

    #[test]
    fn sizes_with_binary_and_decimal_units() {
        let cases = [
            ("465.6GiB", Some(465.6 * 1_073_741_824.0)),
            ("1MiB", Some(1_048_576.0)),
            ("1 MB", Some(1_000_000.0)),
            ("200k", Some(200_000.0)),
            ("17", Some(17.0)),
            ("17B", Some(17.0)),
            ("many", None),
            ("", None),
            ("1XiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
