//! Filter that removes messages of the interactive shell itself from stderr.

/// Message that bash prints when it exits.
const FAREWELL: &[u8] = b"exit\n";

/// Beginning and end of a message that bash prints if a child was ended by a signal and no terminal can be restored.
const COMPLAINT: (&[u8], &[u8]) = (b"bash: [", b"tcsetattr: Inappropriate ioctl for device\n");

/// Length limit in bytes for a line that may be a message of the shell. Longer than any such message.
const LONGEST: usize = 128;

/// Filter for the stderr of one command.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    held: Vec<u8>,
    /// True if the last passed-on byte is not a newline.
    within: bool,
}

impl Sieve {
    /// Returns the bytes that certainly come from the command. Holds back other bytes until their origin is clear.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut passed = Vec::with_capacity(all.len());
        let mut at = 0;
        for line in all.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            let starts = !self.within && complains(line);
            if starts && line.ends_with(COMPLAINT.1) {
                continue;
            }
            let whole = line.ends_with(b"\n");
            if at == all.len() && (line.ends_with(FAREWELL) || (starts && !whole && line.len() < LONGEST)) {
                let known = if starts { 0 } else { line.len() - FAREWELL.len() };
                passed.extend_from_slice(&line[..known]);
                self.held = line[known..].to_vec();
                self.within |= known > 0;
                return passed;
            }
            passed.extend_from_slice(line);
            self.within = !whole;
        }
        passed
    }

    /// Returns the bytes that were held back. If `exited` is true, the message that the shell prints at exit is removed.
    pub fn end(&mut self, exited: bool) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        if exited && held == FAREWELL { Vec::new() } else { held }
    }
}

/// Returns true if `line`, which may be incomplete, begins like [`COMPLAINT`].
fn complains(line: &[u8]) -> bool {
    let known = line.len().min(COMPLAINT.0.len());
    line[..known] == COMPLAINT.0[..known]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sieved(pieces: &[&str], exited: bool) -> String {
        let mut sieve = Sieve::default();
        let mut all: Vec<u8> = pieces.iter().flat_map(|piece| sieve.pass(piece.as_bytes())).collect();
        all.extend(sieve.end(exited));
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn messages_of_the_shell_are_removed_from_command_output() {
        let complaint = "bash: [476: 1 (255)] tcsetattr: Inappropriate ioctl for device\n";
        let said = format!("one\n{complaint}two\nbash: [no\nthree");
        for cut in 0..said.len() {
            assert_eq!(sieved(&[&said[..cut], &said[cut..]], true), "one\ntwo\nbash: [no\nthree", "cut at {cut}");
        }
        for (pieces, exited, left) in [
            (&["a\nexit\n"][..], true, "a\n"),
            (&["a\nexit\n"], false, "a\nexit\n"),
            (&["exit\n", "exit\n"], true, "exit\n"),
            (&["no line", "exit\n"], true, "no line"),
            (&["no lineexit\n", "more"], true, "no lineexit\nmore"),
            (&["bash: ["], true, "bash: ["),
        ] {
            assert_eq!(sieved(pieces, exited), left, "{pieces:?}");
        }
    }
}
