//! Probe `log:` and rules `logs:` match patterns against the log of a node while the log grows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use regex::Regex;
use serde::Serialize;

use super::answer::{AnswerBody, ProbeReply};
use super::failure::ProbeFailure;
use super::kind::{FromFile, ObservationProbe, Prepared, ProbeKind, ProbeSite, ProbeTarget, SharedKeys, window};
use chaosrun_diagnostic::Pointer;
use chaosrun_expr::{Value, of_serde};
use chaosrun_input::Checker;
use chaosrun_input::quantity::serialize_duration;

/// Maximum number of bytes of a log that one call reads. The next call continues at the following byte.
const CHUNK: u64 = 1 << 20;
/// Maximum number of matches that a probe stores.
const KEPT: usize = 1_000;

/// Reader of a growing log file, with the position up to which the file was read.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    at: u64,
    /// Beginning of the last line, whose end has not been written yet.
    partial: Vec<u8>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, at: 0, partial: Vec::new() }
    }

    /// Returns the complete lines that were written since the previous call. A missing file counts as empty. A file that has become shorter
    /// is read from its start.
    fn lines(&mut self) -> std::io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let length = file.metadata()?.len();
        if length < self.at {
            self.at = 0;
            self.partial.clear();
        }
        if length == self.at {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut new = Vec::new();
        self.at += u64::try_from(file.take(CHUNK).read_to_end(&mut new)?).unwrap_or(0);
        let mut lines = Vec::new();
        for piece in new.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                lines.push(String::from_utf8_lossy(&self.partial).trim_end().to_owned());
                self.partial.clear();
            }
        }
        Ok(lines)
    }
}

/// Returns the named groups of a match; `None` if the line does not match.
fn fields(pattern: &Regex, line: &str) -> Option<IndexMap<String, String>> {
    let captures = pattern.captures(line)?;
    let named = pattern.capture_names().flatten();
    Some(named.filter_map(|name| Some((name.to_owned(), captures.name(name)?.as_str().to_owned()))).collect())
}

/// Parameters of a `log:` probe. The rows of its answer are the matching lines of the log of the node.
#[derive(Debug, Clone, Serialize)]
pub struct Log {
    pattern: String,
    #[serde(serialize_with = "serialize_duration")]
    window: Duration,
}

impl FromFile for Log {
    type Raw = String;

    fn read(raw: &String, at: &Pointer, shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self> {
        check.pattern(at, raw);
        Some(Self { pattern: raw.clone(), window: window(shared, check) })
    }
}

impl ProbeKind for Log {
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String> {
        let node = target.node.ok_or("a log belongs to a node: use `on: each ROLE`")?;
        let path = target.log.clone().ok_or_else(|| format!("node `{node}` has no log"))?;
        let pattern = Regex::new(&self.pattern).map_err(|error| error.to_string())?;
        let log = NodeLog { tail: Tail::new(path), pattern, window: self.window, matches: VecDeque::new() };
        Ok(Prepared::Look(Arc::new(Mutex::new(log))))
    }

    fn needs_node(&self) -> bool {
        true
    }
}

/// Log of one node, with the lines that matched so far.
#[derive(Debug)]
struct NodeLog {
    tail: Tail,
    pattern: Regex,
    window: Duration,
    matches: VecDeque<(Instant, IndexMap<String, String>)>,
}

impl ObservationProbe for Mutex<NodeLog> {
    fn look(&self, _: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        self.lock().unwrap_or_else(PoisonError::into_inner).read(Instant::now())
    }
}

impl NodeLog {
    /// Returns a row for each line that matched within the window, newest last. A row contains the named groups and `line`. The value is
    /// the number of rows.
    fn read(&mut self, now: Instant) -> Result<ProbeReply, ProbeFailure> {
        let lines = self.tail.lines().map_err(|error| ProbeFailure::Told(format!("the log cannot be read: {error}")))?;
        for line in lines {
            if let Some(mut fields) = fields(&self.pattern, &line) {
                fields.insert("line".into(), line);
                self.matches.push_back((now, fields));
            }
        }
        let window = self.window;
        while self.matches.len() > KEPT || self.matches.front().is_some_and(|(at, _)| now.duration_since(*at) > window) {
            self.matches.pop_front();
        }
        let rows: Vec<_> = self.matches.iter().map(|(_, fields)| fields).collect();
        let count = rows.len();
        Ok(ProbeReply::new(true, AnswerBody::Rows { rows: of_serde(&rows), value: Value::from(count), warnings: Vec::new() }))
    }
}

/// Rules `logs:` of a cluster, applied to the logs of its nodes.
#[derive(Debug, Default)]
pub struct LogRules {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    node: String,
    tail: Tail,
    /// Name and pattern of each rule.
    rules: Vec<(String, Regex)>,
}

/// Match of a log line with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogMatch {
    pub rule: String,
    pub node: String,
    pub line: String,
    pub fields: IndexMap<String, String>,
}

impl LogRules {
    /// Adds the log of a node, with the rules for this node.
    pub fn watch(&mut self, node: String, path: PathBuf, rules: Vec<(String, Regex)>) {
        if !rules.is_empty() {
            self.watched.push(Watched { node, tail: Tail::new(path), rules });
        }
    }

    /// Returns the matches since the previous call. If a log cannot be read now, the next call reads it.
    pub fn poll(&mut self) -> Vec<LogMatch> {
        let mut found = Vec::new();
        for Watched { node, tail, rules } in &mut self.watched {
            for line in tail.lines().unwrap_or_default() {
                for (rule, pattern) in rules.iter() {
                    if let Some(fields) = fields(pattern, &line) {
                        found.push(LogMatch { rule: rule.clone(), node: node.clone(), line: line.clone(), fields });
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_read_whole_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let mut tail = Tail::new(path.clone());
        assert!(tail.lines().unwrap().is_empty());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(tail.lines().unwrap(), ["one"]);
        file.write_all(b"o\n\xff\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["two", "\u{fffd}"]);
        assert!(tail.lines().unwrap().is_empty());
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["new"]);
    }

    #[test]
    fn rules_turn_lines_into_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pd1.log");
        std::fs::write(&path, "noise\n[leader changed] [region-id=44] [from=1] [to=2]\n").unwrap();
        let mut rules = LogRules::default();
        let pattern = Regex::new(r"leader changed.*region-id=(?<region>\d+)").unwrap();
        rules.watch("pd1".into(), path, vec![("leader_changed".into(), pattern)]);
        let found = rules.poll();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].rule.as_str(), found[0].fields["region"].as_str()), ("leader_changed", "44"));
        assert!(rules.poll().is_empty());
    }
}
