//! Checks of histories for lost acknowledged writes and for exceeded rate limits. The checks are pure. Each model has its own file.
//!
//! Each model uses the rule of Jepsen's `set-full`: a write is lost only if it is known to have happened and a later read shows its
//! absence. An operation without an answer may have happened or may happen later. No check counts either case against the system.
//! Unreadable data counts as unknown, never as correct.

pub mod counter;
pub mod limit;
pub mod queue;
pub mod register;
pub mod set;
#[cfg(test)]
mod simulated;

use super::history::{History, OperationOutcome, RecordedOperation};
use super::sequence::Sequence;
use chaosrun_event::HistoryReport;
use chaosrun_scenario::model::Model;

/// Largest number of lost writes that a result describes in words.
const EXAMPLES: usize = 5;

/// Result of the check of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckResult {
    /// Number of acknowledged writes that are provably lost. For the model `limit`, the number of requests that provably exceed the limit.
    pub lost: u64,
    /// Descriptions in words of the first few lost writes or excess requests.
    pub examples: Vec<String>,
    /// Number of reads after the heal with a definite answer. For the model `limit`, which has no reads, the number of checked requests.
    pub read: u64,
    /// Number of keys, sets or queues with acknowledged writes but without a definite answer after the heal.
    pub unread: u64,
    /// Descriptions of problems without loss: stale reads, duplicate elements, refused writes that took effect.
    pub anomalies: Vec<String>,
}

impl CheckResult {
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

/// Checks a history with the rules of the history's model.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> CheckResult {
    match history.model {
        Model::Register => register::check(history, sequence),
        Model::Set => set::check(history, sequence),
        Model::Queue => queue::check(history, sequence),
        Model::Counter => counter::check(history, sequence),
        Model::Limit => limit::check(history, sequence),
        Model::None => CheckResult::default(),
    }
}

/// Returns the report of a checked history. The report counts only operations that store a value, and requests to rate limiters.
/// `impact_us` is the impact on users in microseconds.
#[must_use]
pub fn report(history: &History, checked: CheckResult, impact_us: u64) -> HistoryReport {
    let count = |wanted: fn(OperationOutcome) -> bool| {
        let found = history.operations.iter().filter(|operation| operation.verb.counts() && wanted(operation.outcome)).count();
        u64::try_from(found).unwrap_or(u64::MAX)
    };
    let acknowledged = count(|outcome| outcome == OperationOutcome::Acknowledged);
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
        model: crate::history_model(history.model),
        acknowledged,
        failed: count(|outcome| matches!(outcome, OperationOutcome::Failed | OperationOutcome::Missed)),
        open: count(|outcome| outcome == OperationOutcome::Unknown),
        lost: checked.lost,
        durable: if why_unknown.is_some() { None } else { Some(checked.lost == 0) },
        lost_examples: checked.examples,
        why_unknown,
        final_reads: if history.model == Model::Limit { 0 } else { checked.read },
        impact_us,
    }
}

/// Returns the last read of a key with a definite answer after the heal, if such a read exists.
fn last_read(history: &History, key: u32) -> Option<&RecordedOperation> {
    history.last.iter().filter(|read| read.key == key && read.outcome == OperationOutcome::Acknowledged).max_by_key(|read| read.invoked_us)
}
