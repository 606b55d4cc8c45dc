//! Paths to values of a file, as `--set` and `matrix:` use them: `chaos.kill.at`, `nodes.tikv.args[2]`, `files."tikv.toml"`.

use std::fmt::Write as _;
use std::ops::Range;

use chaosrun_diagnostic::{PathStep, Pointer};

/// Parsed path, with the byte range of each of its steps in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingPath {
    pub pointer: Pointer,
    pub spans: Vec<Range<usize>>,
}

impl SettingPath {
    /// Formats the path as text. Keys with special characters are quoted.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.pointer.0 {
            let _ = match step {
                PathStep::Index(index) => write!(text, "[{index}]"),
                PathStep::Key(key) => {
                    let dot = if text.is_empty() { "" } else { "." };
                    let quote = if key.contains(['.', '[', '"']) { "\"" } else { "" };
                    write!(text, "{dot}{quote}{key}{quote}")
                }
            };
        }
        text
    }
}

/// Parses a path.
///
/// # Errors
/// Returns a message, and the byte range of `text` that the message is about.
pub fn parse(text: &str) -> Result<SettingPath, (String, Range<usize>)> {
    let mut steps = Vec::new();
    let mut spans = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(inner) = rest.strip_prefix('[') {
            let close = inner.find(']').ok_or_else(|| ("this index does not end".to_owned(), at..text.len()))?;
            let index = inner[..close].parse().map_err(|_| ("expected a number from 0".to_owned(), at + 1..at + 1 + close))?;
            steps.push(PathStep::Index(index));
            spans.push(at..at + close + 2);
            at += close + 2;
        } else {
            if !steps.is_empty() {
                if !rest.starts_with('.') {
                    return Err(("expected `.` or `[`".to_owned(), at..at + rest.chars().next().map_or(0, char::len_utf8)));
                }
                at += 1;
            }
            let rest = &text[at..];
            let (key, length) = if let Some(inner) = rest.strip_prefix('"') {
                let close = inner.find('"').ok_or_else(|| ("this quoted key does not end".to_owned(), at..text.len()))?;
                (&inner[..close], close + 2)
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                (&rest[..end], end)
            };
            if key.is_empty() {
                return Err(("expected a key".to_owned(), at..at + length));
            }
            steps.push(PathStep::Key(key.to_owned()));
            spans.push(at..at + length);
            at += length;
        }
    }
    if steps.is_empty() {
        return Err(("expected a path such as `chaos.kill.at`".to_owned(), 0..text.len()));
    }
    Ok(SettingPath { pointer: Pointer(steps), spans })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_invalid_ones_refused() {
        let path = parse(r#"nodes.tikv.files."a.b"[2]"#).expect("a path");
        assert_eq!(path.pointer, Pointer::default().key("nodes").key("tikv").key("files").key("a.b").index(2));
        assert_eq!(path.spans[3], 17..22);
        assert_eq!(path.text(), r#"nodes.tikv.files."a.b"[2]"#);
        for (text, at) in [("", 0..0), ("a..b", 2..2), ("a[x]", 2..3), ("a[1", 1..3), ("a[1]b", 4..5), (".a", 0..0)] {
            assert_eq!(parse(text).expect_err(text).1, at, "{text}");
        }
    }
}
