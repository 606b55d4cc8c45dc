//! Layout of text in lines of at most 80 columns.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

pub const WIDTH: usize = 80;

/// Appends a line such as `  label    text`. Long text is wrapped, and further lines are aligned with the text of the first line.
pub fn labelled(text: &mut String, label: &str, words: &str) {
    const BEGIN: usize = 11;
    let mut line = format!("  {label:<9}");
    let mut length = BEGIN;
    for (at, word) in words.split(' ').enumerate() {
        let letters = word.chars().count();
        if at > 0 && length + 1 + letters > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(BEGIN);
            length = BEGIN;
        } else if at > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += letters;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

pub fn words(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// Formats microseconds as a duration rounded to seconds, such as `3m 20s`. Durations below ten seconds have one decimal place.
pub fn about(us: u64) -> String {
    let tenths = us.saturating_add(50_000) / 100_000;
    if tenths < 100 {
        format!("{}.{}s", tenths / 10, tenths % 10)
    } else {
        words(Duration::from_secs(us.saturating_add(500_000) / 1_000_000))
    }
}

pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn clipped(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { text.chars().take(width - 1).chain(['…']).collect() }
}
