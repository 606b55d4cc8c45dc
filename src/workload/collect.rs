//! The one place where finished operations come together: history, live statistics, samples.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::client::Done;
use super::history::{History, Operation, Outcome, Seen, SetRead};
use super::sequence::{Sequence, Verb};
use super::stats::{SLOT, Slot, Window};
use crate::emit::Emitter;
use crate::event::Kind;
use crate::scenario::model::Model;

/// Slots between two sample events: half a second.
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
    /// Runs until every client has ended, then gives the history back.
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
        self.emitter.emit(Kind::WorkloadSample {
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

/// Turns a finished operation into its record; what does not fit into one is kept beside.
pub(super) fn record(history: &mut History, sequence: &Sequence, done: Done) -> Operation {
    let planned = done.planned;
    let read = done.read.filter(|_| done.outcome == Outcome::Acknowledged || planned.verb == Verb::Cas);
    let seen = match read {
        Some(read) => interpret(history, sequence, planned.verb, &read, micros(done.invoked)),
        None => Seen::Nothing,
    };
    Operation {
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

fn interpret(history: &mut History, sequence: &Sequence, verb: Verb, read: &Value, invoked_us: u64) -> Seen {
    match (history.model, verb) {
        (Model::None, _) => Seen::Nothing,
        (Model::Set, Verb::Read) => match set_elements(sequence, read) {
            Some((elements, doubled)) => {
                history.set.doubled += doubled;
                for element in &elements {
                    let last = history.set.last_present_us.entry(*element).or_default();
                    *last = invoked_us.max(*last);
                }
                Seen::Elements(u32::try_from(elements.len()).unwrap_or(u32::MAX))
            }
            None => history.foreign(&read.to_string()),
        },
        (_, _) if read.is_null() => Seen::Absent,
        (Model::Counter, _) => match read.as_i64().or_else(|| read.as_str()?.trim().parse().ok()) {
            Some(count) => Seen::Count(count),
            None => history.foreign(&read.to_string()),
        },
        _ => {
            let text = read.as_str().map_or_else(|| read.to_string(), str::to_owned);
            sequence.parse_value(&text).map_or_else(|| history.foreign(&text), Seen::Value)
        }
    }
}

/// The elements of a set that are ours, and how many came twice. None: not a set. Null is the empty one.
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

/// A set as it was read after the heal.
pub(super) fn last_set(sequence: &Sequence, done: &Done) -> Option<SetRead> {
    let (elements, _) = set_elements(sequence, done.read.as_ref()?)?;
    Some(SetRead { invoked_us: micros(done.invoked), elements })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::model::WorkloadUse;
    use serde_json::json;

    #[test]
    fn what_was_read_is_ours_foreign_or_absent_as_the_model_says() {
        let usage = WorkloadUse { name: "kv".into(), clients: 4, rate: 100.0, read_ratio: 0.5 };
        let sequence = |model| Sequence::new(1, model, &usage, 8, 0, |_| true);
        let see = |history: &mut History, read: Value| interpret(history, &sequence(history.model), Verb::Read, &read, 5);

        let mut register = History::new(Model::Register);
        let ours = sequence(Model::Register).value_text(17);
        assert_eq!(see(&mut register, json!(ours)), Seen::Value(17));
        assert_eq!(see(&mut register, Value::Null), Seen::Absent);
        assert_eq!(see(&mut register, json!("other")), Seen::Foreign(0));
        assert_eq!(see(&mut register, json!({"a": 1})), Seen::Foreign(1));
        assert_eq!(see(&mut register, json!("other")), Seen::Foreign(0));

        let mut counter = History::new(Model::Counter);
        assert_eq!(see(&mut counter, json!(12)), Seen::Count(12));
        assert_eq!(see(&mut counter, json!("12\n")), Seen::Count(12));
        assert_eq!(see(&mut counter, json!("twelve")), Seen::Foreign(0));

        let mut set = History::new(Model::Set);
        assert_eq!(see(&mut set, json!([ours, "other", ours, 3])), Seen::Elements(1));
        assert_eq!((set.set.doubled, set.set.last_present_us[&17]), (1, 5));
        assert_eq!(see(&mut set, Value::Null), Seen::Elements(0));
        assert_eq!(see(&mut set, json!("no list")), Seen::Foreign(0));
    }
}
