//! `chaosrun cluster logs`: prints the output of nodes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Which, put};
use crate::cluster_daemon::client;
use crate::cluster_daemon::client::Session;
use crate::cluster_daemon::folder::ClusterFolder;
use crate::exit::{Exit, Expected};

/// Interval between two reads of log files that may grow.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Number of bytes at the end of a log that are searched first for the last lines.
const END: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    which: Which,
    /// Name of a node, or name of a role for all its nodes [default: all nodes]
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// Continue to print new log lines until the cluster stops
    #[arg(long, short)]
    follow: bool,
    /// Print only the last N lines of each node
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

pub fn run(args: &LogsArgs) -> anyhow::Result<Exit> {
    let folder = match args.which.folder() {
        Ok(folder) => folder,
        Err(problem) => return Ok(super::tell_missing(&problem)),
    };
    if !folder.exists() {
        return Err(args.which.not_kept().into());
    }
    let mut vigil = if args.follow { Session::over(&folder).ok() } else { None };
    let nodes = match client::status(&folder) {
        Ok(status) => {
            let named = super::restart::named(&status, args.node.as_deref())?;
            let nodes = status.nodes.into_iter().filter(|node| named.contains(&node.node));
            nodes.filter_map(|node| Some((node.node, node.log?))).collect()
        }
        // The logs of a dead daemon stay until they are removed.
        Err(_) => left(&folder, args.node.as_deref())?,
    };
    // Prefixes each line with the name of its node, unless a single node was requested.
    let prefixed = args.node.as_ref().is_none_or(|name| nodes.iter().any(|(node, _)| node != name));
    let width = nodes.iter().map(|(node, _)| node.len()).max().unwrap_or(0);
    let prefix = |node: &str| if prefixed { format!("{node:width$} | ") } else { String::new() };
    let mut logs: Vec<Log> = nodes.into_iter().filter_map(|(node, path)| Log::open(prefix(&node), &path, args.tail)).collect();
    loop {
        // Checks for the end before the last read, so that no last line is missed.
        let over = match &mut vigil {
            Some(vigil) => vigil.is_over_within(LOOK_AGAIN).unwrap_or(true),
            None => true,
        };
        for log in &mut logs {
            if !put(&log.more(over)) {
                return Ok(Exit::Ok);
            }
        }
        if over {
            return Ok(Exit::Ok);
        }
    }
}

fn left(folder: &ClusterFolder, name: Option<&str>) -> Result<Vec<(String, PathBuf)>, Expected> {
    let entries = folder.path().join("logs").read_dir().into_iter().flatten().flatten();
    let mut found: Vec<(String, PathBuf)> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .filter(|(node, _)| name.is_none_or(|name| node.trim_end_matches(|letter: char| letter.is_ascii_digit()) == name || node == name))
        .collect();
    found.sort();
    if found.is_empty() { Err(super::died(folder)) } else { Ok(found) }
}

/// Log file of a node that may still grow.
struct Log {
    prefix: String,
    file: BufReader<File>,
    /// Bytes of the last line, if its line end has not been written yet.
    begun: Vec<u8>,
}

impl Log {
    fn open(prefix: String, path: &std::path::Path, tail: Option<usize>) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        if let Some(lines) = tail {
            let from = last_lines(&mut file, lines).ok()?;
            file.seek(SeekFrom::Start(from)).ok()?;
        }
        Some(Self { prefix, file: BufReader::new(file), begun: Vec::new() })
    }

    /// Returns the lines that were added since the last call. If `last` is true, the result also contains a line without a line end.
    fn more(&mut self, last: bool) -> String {
        let mut text = String::new();
        while self.file.read_until(b'\n', &mut self.begun).is_ok_and(|read| read > 0) || (last && !self.begun.is_empty()) {
            let whole = self.begun.ends_with(b"\n");
            if !whole && !last {
                break;
            }
            text.push_str(&self.prefix);
            text.push_str(String::from_utf8_lossy(&self.begun).trim_end_matches('\n'));
            text.push('\n');
            self.begun.clear();
        }
        text
    }
}

/// Returns the byte offset at which the last `lines` lines of a file begin.
fn last_lines(file: &mut File, lines: usize) -> std::io::Result<u64> {
    let len = file.metadata()?.len();
    let mut window = END;
    loop {
        let from = len.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&*file).take(len - from).read_to_end(&mut bytes)?;
        // Skips a line break at the end of the file, because no line begins after it.
        let ends = bytes.iter().enumerate().rev().filter(|(at, byte)| **byte == b'\n' && at + 1 < bytes.len());
        let begins = if lines == 0 { Some(bytes.len()) } else { ends.map(|(at, _)| at + 1).nth(lines - 1) };
        match begins {
            Some(at) => return Ok(from + at as u64),
            None if from == 0 => return Ok(0),
            None => window = window.saturating_mul(4),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn log_is_followed_in_whole_lines_from_its_last_lines() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.log");
        let mut file = File::create(&path).unwrap();
        let first: String = (0..40_000).map(|number| format!("line {number}\n")).collect();
        file.write_all(first.as_bytes()).unwrap();
        let text = |tail| Log::open(String::new(), &path, Some(tail)).unwrap().more(true);
        assert_eq!([text(0), text(2)], [String::new(), "line 39998\nline 39999\n".to_owned()]);
        assert_eq!([text(20_000).lines().count(), text(90_000).lines().count()], [20_000, 40_000]);

        let mut log = Log::open("a | ".into(), &path, Some(1)).unwrap();
        assert_eq!(log.more(false), "a | line 39999\n");
        file.write_all(b"beg").unwrap();
        assert_eq!(log.more(false), "");
        file.write_all(b"un\nrest").unwrap();
        assert_eq!(log.more(false), "a | begun\n");
        assert_eq!(log.more(true), "a | rest\n");
        assert_eq!(log.more(true), "");
    }
}
