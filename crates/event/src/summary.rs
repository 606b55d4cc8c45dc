//! Summaries of results in one line. Equal texts have equal summaries.

use super::Output;

/// Maximum number of characters of each quoted line in a summary.
const LINE: usize = 60;

/// Summarises a command: `exit 1, 7 lines, 512 bytes: first line … last line`.
#[must_use]
pub fn of_command(exit_code: i32, timed_out: bool, stdout: &Output, stderr: &Output) -> String {
    let ended = if timed_out { format!("timed out, exit {exit_code}") } else { format!("exit {exit_code}") };
    // For a failure, the last words on stderr are the most informative.
    let told = if stdout.text.trim().is_empty() || (exit_code != 0 && !stderr.text.trim().is_empty()) { stderr } else { stdout };
    let lines = stdout.text.lines().count() + stderr.text.lines().count();
    ended + &size(lines, stdout.bytes + stderr.bytes) + &ends(&told.text)
}

/// Summarises a text that is no command output, in the same format.
#[must_use]
pub fn of_text(text: &str) -> String {
    let size = size(text.lines().count(), text.len() as u64);
    size.trim_start_matches(", ").to_owned() + &ends(text)
}

fn size(lines: usize, bytes: u64) -> String {
    match bytes {
        0 => ", no output".into(),
        _ => format!(", {lines} line{}, {bytes} bytes", if lines == 1 { "" } else { "s" }),
    }
}

/// Returns the first line that is not blank, and the last line that is not blank.
fn ends(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let Some(first) = lines.next() else { return String::new() };
    match lines.next_back() {
        None => format!(": {}", cut(first)),
        Some(last) => format!(": {} … {}", cut(first), cut(last)),
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LINE) {
        None => line.to_owned(),
        Some((at, _)) => format!("{}…", &line[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Output {
        Output { text: text.into(), bytes: text.len() as u64, truncated: false, file: None }
    }

    #[test]
    fn command_summary_has_exit_code_size_and_ends() {
        let of = |code, stdout, stderr| of_command(code, code == 137, &output(stdout), &output(stderr));
        assert_eq!(of(0, "", ""), "exit 0, no output");
        assert_eq!(of(0, "tikv2\n", ""), "exit 0, 1 line, 6 bytes: tikv2");
        assert_eq!(of(0, "\n a \nb\nc\n\n", "w\n"), "exit 0, 6 lines, 12 bytes: a … c");
        assert_eq!(of(137, "begun\n", "bash: killed\n"), "timed out, exit 137, 2 lines, 19 bytes: bash: killed");
        assert_eq!(of_text(&"ä".repeat(99)), format!("1 line, 198 bytes: {}…", "ä".repeat(60)));
    }
}
