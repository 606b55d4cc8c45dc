//! History of a workload: all invoked operations with their outcomes and times.

use std::io::{self, Write};

use indexmap::{IndexMap, IndexSet};
use serde_json::{Map, Value, json};

use super::sequence::{OperationVerb, Sequence};
use chaosrun_scenario::model::{Model, RateLimit};

/// Outcome of an operation that a client sent to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationOutcome {
    /// The operation happened, and the system acknowledged it.
    Acknowledged,
    /// The operation certainly did not happen.
    Failed,
    /// The operation certainly did not happen: a compare-and-put found another value, or a rate limiter refused the request. The user got a
    /// valid answer.
    Mismatch,
    /// The result is unknown because no clear answer came. The operation may have happened or may still happen.
    Unknown,
    /// The operation was never sent, because its client was blocked for longer than the timeout when it was due.
    Missed,
}

impl OperationOutcome {
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

    /// Returns true if the outcome is the answer of a working system: acknowledged, or a mismatch.
    #[must_use]
    pub const fn served(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Mismatch)
    }
}

/// Value that an operation read. For a compare-and-put, the value that the operation expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationValue {
    Nothing,
    /// No value exists: the key is unwritten or the queue is empty.
    Absent,
    /// Value that the operation with this number wrote.
    Value(u64),
    /// Value of a counter.
    Count(i64),
    /// Value that no client of this workload wrote, as an index into [`History::foreign`].
    Foreign(u32),
    /// Number of elements of a set.
    Elements(u32),
}

/// Record of one operation in the history. Times are microseconds since the start of the workload. The type is small because a run has
/// hundreds of thousands of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedOperation {
    pub client: u32,
    pub verb: OperationVerb,
    pub outcome: OperationOutcome,
    pub key: u32,
    /// Delta for a counter; otherwise a number that is unique to the operation.
    pub value: u64,
    pub seen: OperationValue,
    pub intended_us: u64,
    pub invoked_us: u64,
    /// Time of the answer. For an operation without an answer, the time at which the client stopped waiting, which says nothing about the
    /// effect.
    pub completed_us: u64,
}

const _: () = assert!(size_of::<RecordedOperation>() <= 64, "hundreds of thousands of operations stay within tens of megabytes");

impl RecordedOperation {
    /// Returns the time in microseconds at which the operation was certainly over; `u64::MAX` for an operation without an answer.
    #[must_use]
    pub const fn over_us(&self) -> u64 {
        match self.outcome {
            OperationOutcome::Unknown => u64::MAX,
            _ => self.completed_us,
        }
    }

    /// Returns the time in microseconds that the user waited for the operation.
    #[must_use]
    pub const fn latency_us(&self) -> u64 {
        self.completed_us.saturating_sub(self.intended_us)
    }
}

/// Summary of all reads of a set. Storing the full result of every read would take too much memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetSeen {
    /// Invocation time in microseconds of the latest read that contains the element, by element. Only reads before the heal count.
    pub last_present_us: IndexMap<u64, u64>,
    /// Last read of the set after the heal; `None` if no such read succeeded.
    pub last: Option<SetRead>,
    /// Number of elements that occurred twice in one read of the set.
    pub doubled: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRead {
    pub invoked_us: u64,
    pub elements: IndexSet<u64>,
}

/// Record of all operations between the clients and the system.
#[derive(Debug, Clone)]
pub struct History {
    pub model: Model,
    /// Operations in order of completion.
    pub operations: Vec<RecordedOperation>,
    /// Reads after the heal in the order of completion. For a queue, the dequeues after the heal.
    pub last: Vec<RecordedOperation>,
    pub set: SetSeen,
    /// Rate limit for the check of the model `limit`; `None` for other models.
    pub limit: Option<RateLimit>,
    /// Distinct values that no client of this workload wrote, at most [`MAX_FOREIGN`]. The last entry stands for all further values.
    pub foreign: Vec<String>,
}

/// Largest number of stored foreign values, so that invalid answers cannot exhaust the memory.
const MAX_FOREIGN: usize = 1000;
/// Largest number of bytes that are stored of one foreign value.
const MAX_FOREIGN_BYTES: usize = 200;

impl History {
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model, operations: Vec::new(), last: Vec::new(), set: SetSeen::default(), limit: None, foreign: Vec::new() }
    }

    /// Stores a foreign value, which no client of this workload wrote, and returns its reference.
    pub fn foreign(&mut self, text: &str) -> OperationValue {
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
        OperationValue::Foreign(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Writes the history with one JSON line per operation. Operations after the heal come last, with `"last": true`.
    ///
    /// # Errors
    /// Returns the write errors of `out`.
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
            if operation.seen != OperationValue::Nothing {
                let word = if operation.verb == OperationVerb::Cas { "expect" } else { "read" };
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

    fn seen_json(&self, seen: OperationValue, sequence: &Sequence) -> Value {
        match seen {
            OperationValue::Nothing | OperationValue::Absent => Value::Null,
            OperationValue::Value(value) => sequence.value_text(value).into(),
            OperationValue::Count(count) => count.into(),
            OperationValue::Foreign(_) => self.foreign_text(seen).into(),
            OperationValue::Elements(count) => json!({ "elements": count }),
        }
    }

    /// Returns the text of a foreign value; empty for any other value.
    #[must_use]
    pub fn foreign_text(&self, seen: OperationValue) -> &str {
        match seen {
            OperationValue::Foreign(index) => {
                usize::try_from(index).ok().and_then(|index| self.foreign.get(index)).map_or("", String::as_str)
            }
            _ => "",
        }
    }
}
