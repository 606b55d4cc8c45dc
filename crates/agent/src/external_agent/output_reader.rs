//! Reader of an external agent's output, which records each line.

use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::protocol::{self, ProtocolLine};
use crate::capture::{Captured, CapturedOutput, Spill};
use crate::shell_host::ProgramMessage;
use crate::turn::{ProviderAction, Reported};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{AgentEnd, EventKind, Output};

/// Maximum length of a parsed line in bytes. The rest of a longer line is not parsed.
const LONGEST: usize = 1 << 20;
/// Maximum number of bytes of a plain-text line in an event.
const SHOWN: usize = 4096;
/// Maximum number of output lines that are recorded one by one. All output is also saved as a file.
const LINES: usize = 2000;

/// Message from an external program that the agent loop must process.
#[derive(Debug)]
pub(super) enum Heard {
    Command(Reported),
    Actions(Vec<ProviderAction>),
    End {
        end: AgentEnd,
        detail: String,
    },
    /// The program exited. `last` is the last line of the program's stderr.
    Exited {
        code: i32,
        last: String,
    },
    Lost,
}

pub(super) struct OutputReader {
    pub emitter: Emitter,
    pub run_dir: PathBuf,
    /// Maximum number of bytes of the program's output that events contain.
    pub shown: usize,
}

impl OutputReader {
    /// Reads the program's output until the program exits or `over` is cancelled.
    pub async fn listen(self, mut told: mpsc::Receiver<ProgramMessage>, give: mpsc::Sender<Heard>, over: CancellationToken) {
        let kept = |stream: &str| {
            let spill = Spill { run_dir: self.run_dir.clone(), file: format!("commands/program.{stream}") };
            CapturedOutput::new(self.shown, spill)
        };
        let (mut stdout, mut stderr) = (kept("stdout"), kept("stderr"));
        let mut lines = [Lines::new("stdout"), Lines::new("stderr")];
        let (mut said, mut last) = (0, String::new());
        let code = loop {
            let told = tokio::select! {
                biased;
                // Endless output must not delay the end.
                () = over.cancelled() => break None,
                told = told.recv() => told,
            };
            let (stream, bytes) = match told {
                Some(ProgramMessage::Stdout(bytes)) => (0, bytes),
                Some(ProgramMessage::Stderr(bytes)) => (1, bytes),
                Some(ProgramMessage::Ended(code)) => break Some(code),
                None => break None,
            };
            if stream == 0 {
                stdout.take(&bytes).await;
            } else {
                stderr.take(&bytes).await;
            }
            for line in lines[stream].push(&bytes) {
                if stream == 1 && !line.trim().is_empty() {
                    last = cut(line.trim());
                }
                if let Some(heard) = self.line(lines[stream].name, &line, &mut said)
                    && !pass(&give, heard, &over).await
                {
                    break;
                }
            }
        };
        for lines in &mut lines {
            let name = lines.name;
            if let Some(line) = lines.rest() {
                if name == "stderr" && !line.trim().is_empty() {
                    last = cut(line.trim());
                }
                if let Some(heard) = self.line(name, &line, &mut said) {
                    pass(&give, heard, &over).await;
                }
            }
        }
        let (stdout, stderr) = (self.whole("stdout", stdout.finish().await), self.whole("stderr", stderr.finish().await));
        self.emitter.emit(EventKind::ProgramEnded { exit_code: code, stdout, stderr });
        if let Some(code) = code {
            pass(&give, Heard::Exited { code, last }, &over).await;
        }
    }

    fn whole(&self, stream: &str, captured: Captured) -> Output {
        if let Some(trouble) = captured.trouble {
            self.emitter.warn(format!("cannot save the full {stream} of the agent's program: {trouble}"));
        }
        captured.output
    }

    /// Records a line and returns the message that it means for the agent loop, if any.
    fn line(&self, stream: &str, line: &str, said: &mut usize) -> Option<Heard> {
        let meant = if stream == "stdout" { protocol::read(line) } else { ProtocolLine::Said };
        match meant {
            ProtocolLine::Command(reported) => return Some(Heard::Command(reported)),
            ProtocolLine::Actions(actions) => return Some(Heard::Actions(actions)),
            ProtocolLine::End { end, detail } => return Some(Heard::End { end, detail }),
            ProtocolLine::Usage(reports) => {
                self.emitter.emit(EventKind::UsageReported { tokens: reports.tokens, usd: reports.usd });
                return None;
            }
            ProtocolLine::Wrong(why) => self.emitter.warn(format!("the agent's program: {why}")),
            ProtocolLine::Said => {}
        }
        *said += 1;
        if *said <= LINES {
            self.emitter.emit(EventKind::ProgramSaid { stream: stream.into(), text: cut(line) });
        } else if *said == LINES + 1 {
            self.emitter.warn(format!("the agent's program printed more than {LINES} lines: later lines are only in its output file"));
        }
        None
    }
}

/// Sends a message to the agent loop. Returns false if the receiver is closed or `over` is cancelled.
async fn pass(give: &mpsc::Sender<Heard>, heard: Heard, over: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        sent = give.send(heard) => sent.is_ok(),
        () = over.cancelled() => false,
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} more bytes)", &text[..at], text.len() - at),
    }
}

/// Splitter of a byte stream into lines.
struct Lines {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Lines {
    const fn new(name: &'static str) -> Self {
        Self { name, bytes: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST.saturating_sub(self.bytes.len());
            let ends = piece.ends_with(b"\n");
            let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
            self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            if ends {
                lines.push(text(&std::mem::take(&mut self.bytes)));
            }
        }
        lines
    }

    /// Returns the incomplete last line of the stream, or `None` if there is none.
    fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.bytes);
        (!rest.is_empty()).then(|| text(&rest))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_depend_on_chunk_boundaries() {
        let all = "one\r\n\ntwo ä\nrest".as_bytes();
        for size in 1..all.len() {
            let mut lines = Lines::new("stdout");
            let heard: Vec<String> = all.chunks(size).flat_map(|piece| lines.push(piece)).collect();
            assert_eq!(heard, ["one", "", "two ä"], "in pieces of {size}");
            assert_eq!(lines.rest().as_deref(), Some("rest"));
        }
        let mut lines = Lines::new("stdout");
        assert!(lines.push(&vec![b'x'; 3 * LONGEST]).is_empty());
        assert_eq!(lines.push(b"y\nz\n").iter().map(String::len).collect::<Vec<_>>(), [LONGEST, 1]);
    }
}
