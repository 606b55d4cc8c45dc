//! Was an acknowledged write lost, or more allowed than may be? Pure checks of a history, one file a model.
//!
//! The rule of Jepsen's `set-full`, carried over to each model: a write is lost only if it was known to have happened and its absence was
//! observed afterwards. An operation without an answer stays open for ever: it may have happened, it may happen later, and no check may
//! hold either against the system. What could not be read is unknown, never fine.

pub mod counter;
pub mod limit;
pub mod queue;
pub mod register;
pub mod set;
#[cfg(test)]
mod simulated;

use super::history::{History, Operation, Outcome};
use super::sequence::Sequence;
use crate::event::HistoryReport;
use crate::scenario::model::Model;

/// Lost writes that are described in words.
const EXAMPLES: usize = 5;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Acknowledged writes that are provably gone; with the model `limit` the requests that were provably too many.
    pub lost: u64,
    /// The first few of them, in words.
    pub examples: Vec<String>,
    /// Definite reads after the heal; with the model `limit` there are none, and it is what was judged.
    pub read: u64,
    /// Keys (or the set, the queue) that hold acknowledged writes and gave no definite answer after the heal.
    pub unread: u64,
    /// What else is wrong, and no loss: stale reads, doubled elements, refused writes that took effect.
    pub anomalies: Vec<String>,
}

impl Checked {
    fn lose(&mut self, count: u64, example: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        self.lost += count;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }

    fn note(&mut self, count: usize, one: &str, many: &str) {
        match count {
            0 => {}
            1 => self.anomalies.push(format!("1 {one}")),
            _ => self.anomalies.push(format!("{count} {many}")),
        }
    }
}

/// Checks a history by its model.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> Checked {
    match history.model {
        Model::Register => register::check(history, sequence),
        Model::Set => set::check(history, sequence),
        Model::Queue => queue::check(history, sequence),
        Model::Counter => counter::check(history, sequence),
        Model::Limit => limit::check(history, sequence),
        Model::None => Checked::default(),
    }
}

/// The report of a checked history. Counts are of operations that store something; `hurt_us` is the caller's (microseconds).
#[must_use]
pub fn report(history: &History, checked: Checked, hurt_us: u64) -> HistoryReport {
    let count = |wanted: fn(Outcome) -> bool| {
        let found = history.operations.iter().filter(|operation| operation.verb.counts() && wanted(operation.outcome)).count();
        u64::try_from(found).unwrap_or(u64::MAX)
    };
    let acknowledged = count(|outcome| outcome == Outcome::Acknowledged);
    let why_unknown = if checked.lost > 0 {
        None
    } else if history.model == Model::None {
        Some("the workload's model is `none`: there is nothing to check".into())
    } else if acknowledged == 0 && history.model == Model::Limit {
        Some("no request was allowed".into())
    } else if acknowledged == 0 {
        Some("no write was acknowledged".into())
    } else if checked.read == 0 {
        Some("nothing could be read after the heal".into())
    } else if checked.unread > 0 {
        let what = if checked.unread == 1 { "key" } else { "keys" };
        Some(format!("{} {what} with acknowledged writes could not be read after the heal", checked.unread))
    } else {
        None
    };
    HistoryReport {
        model: crate::workload::model_word(history.model).into(),
        acknowledged,
        failed: count(|outcome| matches!(outcome, Outcome::Failed | Outcome::Missed)),
        open: count(|outcome| outcome == Outcome::Unknown),
        lost: checked.lost,
        durable: if why_unknown.is_some() { None } else { Some(checked.lost == 0) },
        lost_examples: checked.examples,
        why_unknown,
        final_reads: if history.model == Model::Limit { 0 } else { checked.read },
        hurt_us,
    }
}

/// The last definite read of a key after the heal.
fn last_read(history: &History, key: u32) -> Option<&Operation> {
    history.last.iter().filter(|read| read.key == key && read.outcome == Outcome::Acknowledged).max_by_key(|read| read.invoked_us)
}
