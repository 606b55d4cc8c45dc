//! Hears what a program prints, line by line, and tells the record of each.

use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::protocol::{self, Line};
use crate::agent::capture::{Captured, Kept, Spill};
use crate::agent::provider::{Action, Reported};
use crate::agent::station::ProgramTold;
use crate::emit::Emitter;
use crate::event::{AgentEnd, Kind, Output};

/// Bytes of a line that may mean something; of a longer one the rest is no line of anything.
const LONGEST: usize = 1 << 20;
/// Bytes of a line that is only said, in its event.
const SHOWN: usize = 4096;
/// Lines that are told one by one; whoever says more is kept as a whole.
const LINES: usize = 2000;

/// What matters to the loop.
#[derive(Debug)]
pub(super) enum Heard {
    Command(Reported),
    Actions(Vec<Action>),
    End {
        end: AgentEnd,
        detail: String,
    },
    /// With the last line of its stderr.
    Exited {
        code: i32,
        last: String,
    },
    Lost,
}

pub(super) struct Hearing {
    pub emitter: Emitter,
    pub run_dir: PathBuf,
    /// Bytes shown of an output.
    pub shown: usize,
}

impl Hearing {
    /// Until the program ends, or nobody wants to hear it any more.
    pub async fn listen(self, mut told: mpsc::Receiver<ProgramTold>, give: mpsc::Sender<Heard>, over: CancellationToken) {
        let kept = |stream: &str| {
            let spill = Spill { run_dir: self.run_dir.clone(), file: format!("commands/program.{stream}") };
            Kept::new(self.shown, spill)
        };
        let (mut stdout, mut stderr) = (kept("stdout"), kept("stderr"));
        let mut lines = [Lines::new("stdout"), Lines::new("stderr")];
        let (mut said, mut last) = (0, String::new());
        let code = loop {
            let told = tokio::select! {
                biased;
                // Somebody who never falls silent shall not keep the end waiting.
                () = over.cancelled() => break None,
                told = told.recv() => told,
            };
            let (stream, bytes) = match told {
                Some(ProgramTold::Stdout(bytes)) => (0, bytes),
                Some(ProgramTold::Stderr(bytes)) => (1, bytes),
                Some(ProgramTold::Ended(code)) => break Some(code),
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
        self.emitter.emit(Kind::ProgramEnded { exit_code: code, stdout, stderr });
        if let Some(code) = code {
            pass(&give, Heard::Exited { code, last }, &over).await;
        }
    }

    fn whole(&self, stream: &str, captured: Captured) -> Output {
        if let Some(trouble) = captured.trouble {
            self.emitter.warn(format!("the whole {stream} of the agent's program could not be kept: {trouble}"));
        }
        captured.output
    }

    /// Tells the record of a line; what it means to the loop.
    fn line(&self, stream: &str, line: &str, said: &mut usize) -> Option<Heard> {
        let meant = if stream == "stdout" { protocol::read(line) } else { Line::Said };
        match meant {
            Line::Command(reported) => return Some(Heard::Command(reported)),
            Line::Actions(actions) => return Some(Heard::Actions(actions)),
            Line::End { end, detail } => return Some(Heard::End { end, detail }),
            Line::Usage(reports) => {
                self.emitter.emit(Kind::UsageReported { tokens: reports.tokens, usd: reports.usd });
                return None;
            }
            Line::Wrong(why) => self.emitter.warn(format!("the agent's program: {why}")),
            Line::Said => {}
        }
        *said += 1;
        if *said <= LINES {
            self.emitter.emit(Kind::ProgramSaid { stream: stream.into(), text: cut(line) });
        } else if *said == LINES + 1 {
            self.emitter.warn(format!("the agent's program says more than {LINES} lines: what follows is in its whole output alone"));
        }
        None
    }
}

/// False when nobody wants it.
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

/// Bytes of a stream, made into lines.
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

    /// What was no whole line.
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
    fn lines_are_the_same_wherever_bytes_are_cut() {
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
