//! Formatting of values in PD's answers as Go formats them.

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::Serializer;

/// Nanoseconds per second.
const SECOND: i64 = 1_000_000_000;

/// Formats a duration in nanoseconds like Go's `time.Duration`: `1h0m10.5s`, `29.294468ms`, `0s`.
#[must_use]
pub(crate) fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let second = SECOND.unsigned_abs();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < second {
        let (unit, name) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(nanos, unit));
    }
    let minutes = nanos / (60 * second);
    let rest = decimal(nanos % (60 * second), second);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, minutes) => format!("{sign}{minutes}m{rest}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{rest}s"),
    }
}

/// Formats `value / unit` in decimal without trailing zeros.
fn decimal(value: u64, unit: u64) -> String {
    let digits = usize::try_from(unit.ilog10()).unwrap_or(0);
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Formats a size in bytes like PD: four significant digits and a binary unit, as in `465.6GiB`. The result is rounded.
#[must_use]
pub(crate) fn byte_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    #[expect(clippy::cast_precision_loss, reason = "four significant digits are printed")]
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    // `%.4g` between 0 and 1024: four significant digits.
    let decimals = match size {
        size if size >= 999.95 => 0,
        size if size >= 99.995 => 1,
        size if size >= 9.9995 => 2,
        _ => 3,
    };
    let text = format!("{size:.decimals$}");
    let text = if decimals == 0 { &text } else { text.trim_end_matches('0').trim_end_matches('.') };
    format!("{text}{}", UNITS[unit])
}

/// Formats a time in RFC 3339 and UTC, with as many fractional digits as needed: `2026-06-21T11:00:11.123456789Z`.
#[must_use]
pub(crate) fn rfc3339(unix_nanos: i64) -> String {
    timestamp(unix_nanos).to_string()
}

/// Formats a time like Go's `time.Time.String()`: `2026-06-21 11:00:00.1 +0000 UTC m=+3600.1`. The last part is the number of seconds since
/// the start of the process.
#[must_use]
pub(crate) fn go_time(unix_nanos: i64, since_start: i64) -> String {
    let at = Offset::UTC.to_datetime(timestamp(unix_nanos));
    let whole = since_start.div_euclid(SECOND);
    format!("{} +0000 UTC m=+{whole}.{:09}", at.to_string().replace('T', " "), since_start.rem_euclid(SECOND))
}

fn timestamp(unix_nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(unix_nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Serialises a float like Go: a whole number as an integer, where serde would add `.0`.
///
/// # Errors
/// Returns the errors of the serializer.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
pub(crate) fn go_float<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    #[expect(clippy::cast_possible_truncation, reason = "only whole numbers far inside the range of i64 reach this line")]
    if value.fract() == 0.0 && value.abs() < 1e15 { serializer.serialize_i64(*value as i64) } else { serializer.serialize_f64(*value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_gos_format() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (29_294_468, "29.294468ms"),
            (SECOND, "1s"),
            (60 * SECOND, "1m0s"),
            (1_800 * SECOND, "30m0s"),
            (3_610 * SECOND + 123_456_789, "1h0m10.123456789s"),
            (262_992 * SECOND + SECOND / 2, "73h3m12.5s"),
            (-1_500_000_000, "-1.5s"),
        ] {
            assert_eq!(go_duration(nanos), text);
        }
    }

    #[test]
    fn sizes_have_four_significant_digits() {
        const GIB: u64 = 1 << 30;
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (GIB, "1GiB"),
            (GIB * 9315 / 10, "931.5GiB"),
            (GIB * 3118 / 1000, "3.118GiB"),
            (GIB * 1024 * 182 / 100, "1.82TiB"),
            (512 << 20, "512MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(byte_size(bytes), text);
        }
    }

    #[test]
    fn times_drop_trailing_zeros() {
        assert_eq!(rfc3339(1_782_036_001 * SECOND), "2026-06-21T10:00:01Z");
        assert_eq!(rfc3339(1_782_039_611 * SECOND + 123_456_789), "2026-06-21T11:00:11.123456789Z");
        assert_eq!(go_time(1_782_036_001 * SECOND + SECOND / 10, 5 * SECOND), "2026-06-21 10:00:01.1 +0000 UTC m=+5.000000000");
    }
}
