//! The history: every operation that was invoked, what became of it and when.

use std::io::{self, Write};

use indexmap::{IndexMap, IndexSet};
use serde_json::{Map, Value, json};

use super::sequence::{Sequence, Verb};
use crate::scenario::model::{Model, RateLimit};

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It happened, and we were told so.
    Acknowledged,
    /// It certainly did not happen.
    Failed,
    /// It certainly did not happen, and rightly: a compare-and-put that found something else. The user was served.
    Mismatch,
    /// No answer, or one that says neither: it may have happened, it may still happen.
    Unknown,
    /// Never sent: its client was stuck for longer than the timeout when it was due.
    Missed,
}

impl Outcome {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Failed => "failed",
            Self::Mismatch => "mismatch",
            Self::Unknown => "unknown",
            Self::Missed => "missed",
        }
    }

    /// Whether the user got what a working system gives.
    #[must_use]
    pub const fn served(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Mismatch)
    }
}

/// What an operation read; for a compare-and-put what it expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    /// There was no value: an unwritten key, an empty queue.
    Absent,
    /// The value of the operation with this number.
    Value(u64),
    /// A counter's value.
    Count(i64),
    /// Something that no client of ours wrote: an index into [`History::foreign`].
    Foreign(u32),
    /// That many elements of a set.
    Elements(u32),
}

/// One operation. Times are microseconds since the workload began. Small on purpose: there are hundreds of thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub client: u32,
    pub verb: Verb,
    pub outcome: Outcome,
    pub key: u32,
    /// A counter's delta; else a number that no other operation has.
    pub value: u64,
    pub seen: Seen,
    pub intended_us: u64,
    pub invoked_us: u64,
    /// When the answer came. For an operation without an answer: when its client gave it up, which says nothing about its effect.
    pub completed_us: u64,
}

const _: () = assert!(size_of::<Operation>() <= 64, "hundreds of thousands of operations stay within tens of megabytes");

impl Operation {
    /// When it was certainly over: never, for one without an answer.
    #[must_use]
    pub const fn over_us(&self) -> u64 {
        match self.outcome {
            Outcome::Unknown => u64::MAX,
            _ => self.completed_us,
        }
    }

    /// What the user waited for it.
    #[must_use]
    pub const fn latency_us(&self) -> u64 {
        self.completed_us.saturating_sub(self.intended_us)
    }
}

/// What was seen of a set, folded: whole sets, read again and again, would not fit in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetSeen {
    /// Element -> invocation of the latest read during the run that saw it.
    pub last_present_us: IndexMap<u64, u64>,
    /// The last read after the heal, when there was one.
    pub last: Option<SetRead>,
    /// Elements that were seen twice in one read.
    pub doubled: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRead {
    pub invoked_us: u64,
    pub elements: IndexSet<u64>,
}

/// All that happened between the clients and the system.
#[derive(Debug, Clone)]
pub struct History {
    pub model: Model,
    /// In order of completion.
    pub operations: Vec<Operation>,
    /// The reads (of a queue: the dequeues) after the heal, in order of completion.
    pub last: Vec<Operation>,
    pub set: SetSeen,
    /// What the model `limit` checks.
    pub limit: Option<RateLimit>,
    /// Distinct values that no client of ours wrote; at most [`MAX_FOREIGN`], the last stands for all further ones.
    pub foreign: Vec<String>,
}

/// A system that answers rubbish must not fill our memory with it.
const MAX_FOREIGN: usize = 1000;
/// Bytes of a foreign value that are kept.
const MAX_FOREIGN_BYTES: usize = 200;

impl History {
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model, operations: Vec::new(), last: Vec::new(), set: SetSeen::default(), limit: None, foreign: Vec::new() }
    }

    /// Remembers a value that nobody of ours wrote.
    pub fn foreign(&mut self, text: &str) -> Seen {
        let mut end = text.len().min(MAX_FOREIGN_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        let found = self.foreign.iter().position(|known| known == text);
        let index = found.unwrap_or_else(|| {
            if self.foreign.len() < MAX_FOREIGN {
                self.foreign.push(text.into());
            }
            self.foreign.len() - 1
        });
        Seen::Foreign(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Writes one operation a line, those after the heal last with `"last": true`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, sequence: &Sequence, mut out: impl Write) -> io::Result<()> {
        for (operation, last) in self.operations.iter().map(|one| (one, false)).chain(self.last.iter().map(|one| (one, true))) {
            let mut line = Map::new();
            line.insert("client".into(), operation.client.into());
            line.insert("op".into(), operation.verb.as_str().into());
            if !matches!(self.model, Model::Set | Model::Queue) {
                line.insert("key".into(), sequence.key_text(operation.key).into());
            }
            if operation.verb.stores() {
                let value = if self.model == Model::Counter { operation.value.into() } else { sequence.value_text(operation.value).into() };
                line.insert("value".into(), value);
            }
            if operation.seen != Seen::Nothing {
                let word = if operation.verb == Verb::Cas { "expect" } else { "read" };
                line.insert(word.into(), self.seen_json(operation.seen, sequence));
            }
            line.insert("intended_us".into(), operation.intended_us.into());
            line.insert("invoked_us".into(), operation.invoked_us.into());
            line.insert("completed_us".into(), operation.completed_us.into());
            line.insert("outcome".into(), operation.outcome.as_str().into());
            if last {
                line.insert("last".into(), true.into());
            }
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    fn seen_json(&self, seen: Seen, sequence: &Sequence) -> Value {
        match seen {
            Seen::Nothing | Seen::Absent => Value::Null,
            Seen::Value(value) => sequence.value_text(value).into(),
            Seen::Count(count) => count.into(),
            Seen::Foreign(_) => self.foreign_text(seen).into(),
            Seen::Elements(count) => json!({ "elements": count }),
        }
    }

    /// The text of a foreign value.
    #[must_use]
    pub fn foreign_text(&self, seen: Seen) -> &str {
        match seen {
            Seen::Foreign(index) => usize::try_from(index).ok().and_then(|index| self.foreign.get(index)).map_or("", String::as_str),
            _ => "",
        }
    }
}
