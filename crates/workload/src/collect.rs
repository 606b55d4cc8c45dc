//! Collector of the clients' finished operations: creates the history, live statistics and sample events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::client::Done;
use super::history::{History, OperationOutcome, OperationValue, RecordedOperation, SetRead};
use super::sequence::{OperationVerb, Sequence};
use super::stats::{SLOT, Slot, Window};
use chaosrun_event::EventKind;
use chaosrun_event::emit::Emitter;
use chaosrun_scenario::model::Model;

/// Number of statistics slots between two sample events: half a second.
const SAMPLE_SLOTS: u32 = 5;

pub(super) struct Collector {
    pub(super) name: String,
    pub(super) history: History,
    pub(super) sequence: Arc<Sequence>,
    pub(super) window: Window,
    pub(super) timeout: Duration,
    pub(super) emitter: Emitter,
}

impl Collector {
    /// Collects finished operations until every client has ended, then returns the history.
    pub(super) async fn run(mut self, mut done: mpsc::UnboundedReceiver<Done>) -> History {
        let timeout_us = micros(self.timeout);
        let mut ticks = tokio::time::interval(SLOT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut sample = Slot::default();
        let mut slots = 0;
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    sample.add(&self.window.close_slot(Instant::now()));
                    slots += 1;
                    if slots == SAMPLE_SLOTS {
                        slots = 0;
                        self.emit(std::mem::take(&mut sample));
                    }
                }
                next = done.recv() => match next {
                    Some(mut done) => {
                        let problem = done.problem.take();
                        let operation = record(&mut self.history, &self.sequence, done);
                        self.window.count(&operation, problem, timeout_us);
                        self.history.operations.push(operation);
                    }
                    None => break,
                }
            }
        }
        sample.add(&self.window.close_slot(Instant::now()));
        self.emit(sample);
        self.history
    }

    fn emit(&self, mut sample: Slot) {
        self.emitter.emit(EventKind::WorkloadSample {
            workload: self.name.clone(),
            interval_us: micros(sample.length),
            acknowledged: u64::try_from(sample.latencies_us.len()).unwrap_or(u64::MAX),
            failed: sample.failed,
            unknown: sample.unknown,
            p50_us: sample.quantile_us(0.5).map_or(0, u64::from),
            p99_us: sample.quantile_us(0.99).map_or(0, u64::from),
        });
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Converts a finished operation to its record in the history. Values that do not fit into a record are stored separately.
pub(super) fn record(history: &mut History, sequence: &Sequence, done: Done) -> RecordedOperation {
    let planned = done.planned;
    let read = done.read.filter(|_| done.outcome == OperationOutcome::Acknowledged || planned.verb == OperationVerb::Cas);
    let seen = match read {
        Some(read) => interpret(history, sequence, planned.verb, &read, micros(done.invoked)),
        None => OperationValue::Nothing,
    };
    RecordedOperation {
        client: planned.client,
        verb: planned.verb,
        outcome: done.outcome,
        key: planned.key,
        value: planned.value,
        seen,
        intended_us: micros(done.intended),
        invoked_us: micros(done.invoked),
        completed_us: micros(done.completed),
    }
}

fn interpret(history: &mut History, sequence: &Sequence, verb: OperationVerb, read: &Value, invoked_us: u64) -> OperationValue {
    match (history.model, verb) {
        (Model::None, _) => OperationValue::Nothing,
        (Model::Set, OperationVerb::Read) => match set_elements(sequence, read) {
            Some((elements, doubled)) => {
                history.set.doubled += doubled;
                for element in &elements {
                    let last = history.set.last_present_us.entry(*element).or_default();
                    *last = invoked_us.max(*last);
                }
                OperationValue::Elements(u32::try_from(elements.len()).unwrap_or(u32::MAX))
            }
            None => history.foreign(&read.to_string()),
        },
        (_, _) if read.is_null() => OperationValue::Absent,
        (Model::Counter, _) => match read.as_i64().or_else(|| read.as_str()?.trim().parse().ok()) {
            Some(count) => OperationValue::Count(count),
            None => history.foreign(&read.to_string()),
        },
        _ => {
            let text = read.as_str().map_or_else(|| read.to_string(), str::to_owned);
            sequence.parse_value(&text).map_or_else(|| history.foreign(&text), OperationValue::Value)
        }
    }
}

/// Returns the elements of a read set that this workload wrote, and the number of duplicates. Returns `None` if the value is not a set.
/// Null is the empty set.
fn set_elements(sequence: &Sequence, read: &Value) -> Option<(indexmap::IndexSet<u64>, u64)> {
    let mut elements = indexmap::IndexSet::new();
    let mut doubled = 0;
    match read {
        Value::Null => {}
        Value::Array(items) => {
            for value in items.iter().filter_map(|item| sequence.parse_value(item.as_str()?)) {
                doubled += u64::from(!elements.insert(value));
            }
        }
        _ => return None,
    }
    Some((elements, doubled))
}

/// Returns the content of a set from a read after the heal. Returns `None` if the operation did not read a set.
pub(super) fn last_set(sequence: &Sequence, done: &Done) -> Option<SetRead> {
    let (elements, _) = set_elements(sequence, done.read.as_ref()?)?;
    Some(SetRead { invoked_us: micros(done.invoked), elements })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_scenario::model::WorkloadUse;
    use serde_json::json;

    #[test]
    fn values_are_classified_by_model() {
        let usage = WorkloadUse { name: "kv".into(), clients: 4, rate: 100.0, read_ratio: 0.5 };
        let sequence = |model| Sequence::new(1, model, &usage, 8, 0, |_| true);
        let see = |history: &mut History, read: Value| interpret(history, &sequence(history.model), OperationVerb::Read, &read, 5);

        let mut register = History::new(Model::Register);
        let ours = sequence(Model::Register).value_text(17);
        assert_eq!(see(&mut register, json!(ours)), OperationValue::Value(17));
        assert_eq!(see(&mut register, Value::Null), OperationValue::Absent);
        assert_eq!(see(&mut register, json!("other")), OperationValue::Foreign(0));
        assert_eq!(see(&mut register, json!({"a": 1})), OperationValue::Foreign(1));
        assert_eq!(see(&mut register, json!("other")), OperationValue::Foreign(0));

        let mut counter = History::new(Model::Counter);
        assert_eq!(see(&mut counter, json!(12)), OperationValue::Count(12));
        assert_eq!(see(&mut counter, json!("12\n")), OperationValue::Count(12));
        assert_eq!(see(&mut counter, json!("twelve")), OperationValue::Foreign(0));

        let mut set = History::new(Model::Set);
        assert_eq!(see(&mut set, json!([ours, "other", ours, 3])), OperationValue::Elements(1));
        assert_eq!((set.set.doubled, set.set.last_present_us[&17]), (1, 5));
        assert_eq!(see(&mut set, Value::Null), OperationValue::Elements(0));
        assert_eq!(see(&mut set, json!("no list")), OperationValue::Foreign(0));
    }
}
