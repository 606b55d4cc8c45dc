//! Log of the fake model server on stderr: `2026-06-21T11:02:09.629Z WARN no turn is left conversation=1 request=4`.
#![expect(clippy::print_stderr, reason = "stderr is the log of the server")]

use std::fmt::Display;

use jiff::Timestamp;

/// Writes a warning with its fields to stderr.
pub fn warn(message: &str, fields: &[(&str, &dyn Display)]) {
    let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    eprintln!("{:.3} WARN {message}{fields}", Timestamp::now());
}
