//! Capture of a command's output: the start and the end of the output in memory, and a long output as a whole in a file.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use chaosrun_event::Output;

/// Maximum number of bytes of one output that are written to its file.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;

/// Path of the file to which a long output is written.
#[derive(Debug, Clone)]
pub(super) struct Spill {
    pub run_dir: PathBuf,
    /// Path of the file, relative to `run_dir`.
    pub file: String,
}

/// Captured output of a command, with the error if the output file could not be written.
#[derive(Debug)]
pub(super) struct Captured {
    pub output: Output,
    pub trouble: Option<io::Error>,
}

/// Buffer that captures a command's output while the output arrives.
pub(super) struct CapturedOutput {
    limit: usize,
    spill: Spill,
    /// Whole output up to `limit` bytes. For a longer output, only its first `limit / 2` bytes.
    head: Vec<u8>,
    /// Last `limit / 2` bytes of an output longer than `limit`. Empty for a shorter output.
    tail: VecDeque<u8>,
    bytes: u64,
    file: Option<File>,
    written: u64,
    trouble: Option<io::Error>,
}

impl CapturedOutput {
    /// Creates a buffer. `limit` is the maximum number of bytes that remain in memory.
    pub fn new(limit: usize, spill: Spill) -> Self {
        Self { limit, spill, head: Vec::new(), tail: VecDeque::new(), bytes: 0, file: None, written: 0, trouble: None }
    }

    fn long(&self) -> bool {
        self.bytes > self.limit as u64
    }

    pub async fn take(&mut self, piece: &[u8]) {
        let was_long = self.long();
        self.bytes += piece.len() as u64;
        if !self.long() {
            self.head.extend_from_slice(piece);
            return;
        }
        if !was_long {
            match self.open().await {
                Ok(file) => self.file = Some(file),
                Err(error) => self.trouble = Some(error),
            }
            let all = std::mem::take(&mut self.head);
            self.write(&all).await;
            let half = self.limit / 2;
            self.tail.extend(all.get(half..).unwrap_or_default());
            self.head = all;
            self.head.truncate(half);
        }
        self.write(piece).await;
        let missing = self.limit / 2 - self.head.len().min(self.limit / 2);
        let (to_head, to_tail) = piece.split_at(missing.min(piece.len()));
        self.head.extend_from_slice(to_head);
        let room = self.limit - self.limit / 2;
        // Only the end of a piece matters if the piece is longer than the tail.
        let to_tail = &to_tail[to_tail.len().saturating_sub(room)..];
        self.tail.extend(to_tail);
        let over = self.tail.len().saturating_sub(room);
        self.tail.drain(..over);
    }

    async fn open(&self) -> io::Result<File> {
        let path = self.spill.run_dir.join(&self.spill.file);
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        File::create(path).await
    }

    async fn write(&mut self, piece: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let room = usize::try_from(FILE_LIMIT - self.written).unwrap_or(usize::MAX).min(piece.len());
        if let Err(error) = file.write_all(&piece[..room]).await {
            self.trouble = Some(error);
            self.file = None;
        }
        self.written += room as u64;
    }

    pub async fn finish(mut self) -> Captured {
        if !self.long() {
            let text = String::from_utf8_lossy(&self.head).into_owned();
            return Captured { output: Output { text, bytes: self.bytes, truncated: false, file: None }, trouble: None };
        }
        if let Some(file) = &mut self.file {
            let note = format!("\n[truncated here: {} bytes in total]\n", self.bytes);
            let note = if self.bytes > FILE_LIMIT { note.as_bytes() } else { b"" };
            let done = async { file.write_all(note).await.and(file.flush().await) };
            if let Err(error) = done.await {
                self.trouble = Some(error);
                self.file = None;
            }
        }
        let tail = self.tail.make_contiguous();
        let head = whole_end(&self.head);
        let tail = whole_start(tail);
        let left_out = self.bytes - (head.len() + tail.len()) as u64;
        let text = format!("{}\n[... {left_out} bytes omitted ...]\n{}", String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        let file = self.file.is_some().then(|| self.spill.file.clone());
        Captured { output: Output { text, bytes: self.bytes, truncated: true, file }, trouble: self.trouble }
    }
}

/// Returns the bytes without an incomplete UTF-8 character at their end.
fn whole_end(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

/// Returns the bytes without an incomplete UTF-8 character at their start.
fn whole_start(bytes: &[u8]) -> &[u8] {
    let cut = bytes.iter().take(3).take_while(|byte| (0x80..0xC0).contains(*byte)).count();
    &bytes[cut..]
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn captured(text: &[u8], limit: usize) -> (Captured, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a folder");
        let spill = Spill { run_dir: dir.path().to_owned(), file: "commands/1.stdout".into() };
        (in_pieces(text, CapturedOutput::new(limit, spill)).await, dir)
    }

    async fn in_pieces(text: &[u8], mut kept: CapturedOutput) -> Captured {
        for piece in text.chunks(7) {
            kept.take(piece).await;
        }
        kept.finish().await
    }

    #[tokio::test]
    async fn short_output_is_unchanged() {
        let (short, dir) = captured(b"hello \xff\n", 9).await;
        assert_eq!(short.output, Output { text: "hello \u{fffd}\n".into(), bytes: 8, truncated: false, file: None });
        assert!(!dir.path().join("commands").exists());
        let (exact, _dir) = captured(b"0123456789", 10).await;
        assert!(!exact.output.truncated);
    }

    #[tokio::test]
    async fn long_output_keeps_head_tail_and_a_file() {
        let text = "a line of some length\n".repeat(100_000);
        let (long, dir) = captured(text.as_bytes(), 40).await;
        let left_out = text.len() - 40;
        assert_eq!(long.output.text, format!("{}\n[... {left_out} bytes omitted ...]\n{}", &text[..20], &text[text.len() - 20..]));
        assert_eq!((long.output.bytes, long.output.truncated), (text.len() as u64, true));
        let file = dir.path().join(long.output.file.expect("a file"));
        assert_eq!(std::fs::read_to_string(file).expect("reads"), text);
    }

    #[tokio::test]
    async fn characters_are_not_split() {
        let (long, _dir) = captured("ääääääää".as_bytes(), 7).await;
        assert_eq!(long.output.text, "ä\n[... 10 bytes omitted ...]\nää");
        assert!(captured(b"abc", 0).await.0.output.text.starts_with("\n[... 3 bytes"));
    }

    #[tokio::test]
    async fn unwritable_file_is_reported() {
        let spill = Spill { run_dir: "/dev/null/x".into(), file: "commands/1.stdout".into() };
        let captured = in_pieces(b"0123456789", CapturedOutput::new(4, spill)).await;
        assert!(captured.trouble.is_some() && captured.output.truncated && captured.output.file.is_none());
    }
}
