//! Last lines of the log of a node, for error messages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Maximum number of bytes of a log that an error quotes.
const BYTES: u64 = 4096;
const LINES: usize = 8;
const WIDTH: usize = 200;

/// Returns the last lines of the file at `path`, each indented by two spaces. Text before byte `from` is ignored. Returns `None` if there
/// are no such lines.
#[must_use]
pub fn last_lines(path: &Path, from: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    let begin = len.saturating_sub(BYTES).max(from);
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // If the text does not begin at `from`, its first line is incomplete and is left out.
    let whole = if begin > from { text.split_once('\n').map_or(&*text, |(_, rest)| rest) } else { &text };
    let lines: Vec<&str> = whole.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    if last.is_empty() {
        return None;
    }
    let mut quoted = String::new();
    for line in last {
        let cut = line.char_indices().nth(WIDTH).map(|(at, _)| &line[..at]);
        let (line, more) = cut.map_or((*line, ""), |cut| (cut, "…"));
        quoted.push_str(if quoted.is_empty() { "  " } else { "\n  " });
        quoted.push_str(line);
        quoted.push_str(more);
    }
    Some(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_the_end_of_this_start_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "old\none\n\ntwo \u{e9}").unwrap();
        assert_eq!(last_lines(file.path(), 4).unwrap(), "  one\n  two \u{e9}");
        assert_eq!(last_lines(file.path(), 17), None);
        let many = (0..1000).map(|number| format!("line {number}")).collect::<Vec<_>>().join("\n") + "\n";
        std::fs::write(file.path(), many + &"x".repeat(300)).unwrap();
        let quoted = last_lines(file.path(), 0).unwrap();
        assert_eq!(quoted.lines().count(), LINES);
        assert!(quoted.starts_with("  line 993\n") && quoted.ends_with("x…"));
    }
}
