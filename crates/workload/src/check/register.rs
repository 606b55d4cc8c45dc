//! Check of register histories: the last read of a key must not return a value older than the acknowledged writes.

use std::collections::{BTreeMap, HashMap};

use super::{CheckResult, last_read};
use crate::history::{History, OperationOutcome, OperationValue, RecordedOperation};
use crate::sequence::{OperationVerb, Sequence};

/// Operations on one register key, prepared for the check.
#[derive(Default)]
struct Key<'a> {
    writes: HashMap<u64, &'a RecordedOperation>,
    reads: Vec<&'a RecordedOperation>,
    /// Time in microseconds by which each written value had certainly taken effect: the acknowledgement of the write, or the first read of
    /// the value.
    settled_us: HashMap<u64, u64>,
    /// Acknowledged writes in the order of completion, each as a pair of times. The first is the completion time. The second is the latest
    /// invocation time of all writes completed until then.
    acknowledged: Vec<(u64, u64)>,
}

/// Checks a register history. A read of the value of write `w` is *behind* a write `w'` if `w'` was acknowledged, and was invoked after `w`
/// had taken effect. After the heal, each such `w'` is lost, because the state is older than `w'`. During the run, the read is stale. A
/// write without an answer may take effect at any later time, so it explains every read of its value.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> CheckResult {
    let mut checked = CheckResult::default();
    let (mut stale, mut refused, mut foreign) = (0, 0, 0);
    for (number, key) in keys(history) {
        for read in key.reads.iter().filter(|read| read.outcome == OperationOutcome::Acknowledged) {
            stale += usize::from(key.is_stale(read));
            match read.seen {
                OperationValue::Value(value) => match key.writes.get(&value) {
                    Some(write) if write.invoked_us <= read.completed_us => refused += usize::from(!took_effect(write)),
                    // Values that this run has not written yet come from another run with the same seed.
                    _ => foreign += 1,
                },
                OperationValue::Foreign(_) => foreign += 1,
                _ => {}
            }
        }
        let Some(last) = last_read(history, number) else {
            checked.unread += u64::from(!key.acknowledged.is_empty());
            continue;
        };
        checked.read += 1;
        checked.lose(key.lost(last), || {
            let newest =
                key.writes.values().filter(|write| write.outcome == OperationOutcome::Acknowledged).max_by_key(|write| write.completed_us);
            let name = sequence.key_text(number);
            let found = match last.seen {
                OperationValue::Value(value) => format!("`{}`, which is older", sequence.value_text(value)),
                OperationValue::Foreign(_) => format!("`{}`, which no client wrote", history.foreign_text(last.seen)),
                _ => "nothing".into(),
            };
            let newest = newest.map(|write| sequence.value_text(write.value)).unwrap_or_default();
            format!("{name}: `{newest}` was acknowledged, the last read gave {found}")
        });
    }
    checked.note(stale, "stale read during the run", "stale reads during the run");
    checked.note(refused, "read of a write that had been refused", "reads of writes that had been refused");
    checked.note(foreign, "read of a value that no client wrote", "reads of values that no client wrote");
    checked
}

/// Returns the keys whose last read cannot be explained. The caller reads these keys again before their writes count as lost.
#[must_use]
pub(crate) fn suspects(history: &History) -> Vec<u32> {
    keys(history)
        .iter()
        .filter(|(number, key)| last_read(history, **number).is_some_and(|last| key.lost(last) > 0))
        .map(|(n, _)| *n)
        .collect()
}

fn keys(history: &History) -> BTreeMap<u32, Key<'_>> {
    let mut keys: BTreeMap<u32, Key<'_>> = BTreeMap::new();
    for operation in &history.operations {
        let key = keys.entry(operation.key).or_default();
        match operation.verb {
            OperationVerb::Read => key.reads.push(operation),
            verb if verb.stores() => {
                key.writes.insert(operation.value, operation);
                if operation.outcome == OperationOutcome::Acknowledged {
                    key.settle(operation.value, operation.completed_us);
                    key.acknowledged.push((operation.completed_us, operation.invoked_us));
                }
            }
            _ => {}
        }
    }
    for key in keys.values_mut() {
        for index in 0..key.reads.len() {
            let read = key.reads[index];
            if let (OperationOutcome::Acknowledged, OperationValue::Value(value)) = (read.outcome, read.seen)
                && key.writes.get(&value).is_some_and(|write| write.invoked_us <= read.completed_us)
            {
                key.settle(value, read.completed_us);
            }
        }
        key.acknowledged.sort_unstable();
        let mut latest = 0;
        for (_, invoked) in &mut key.acknowledged {
            latest = latest.max(*invoked);
            *invoked = latest;
        }
    }
    keys
}

/// Returns true if the write may have taken effect.
fn took_effect(write: &RecordedOperation) -> bool {
    matches!(write.outcome, OperationOutcome::Acknowledged | OperationOutcome::Unknown)
}

impl Key<'_> {
    fn settle(&mut self, value: u64, at_us: u64) {
        let settled = self.settled_us.entry(value).or_insert(at_us);
        *settled = (*settled).min(at_us);
    }

    /// Returns the time in microseconds by which the value read had certainly taken effect. Returns `None` if the value is unknown or may
    /// have taken effect at any time.
    fn settled(&self, seen: OperationValue) -> Option<u64> {
        match seen {
            OperationValue::Value(value) if self.writes.contains_key(&value) => self.settled_us.get(&value).copied(),
            // The state is the one before all writes.
            OperationValue::Absent => Some(0),
            _ => None,
        }
    }

    /// Returns the number of acknowledged writes that are lost according to the last read `last`.
    fn lost(&self, last: &RecordedOperation) -> u64 {
        let acknowledged = self.writes.values().filter(|write| write.outcome == OperationOutcome::Acknowledged);
        let lost = match last.seen {
            OperationValue::Absent => acknowledged.count(),
            OperationValue::Value(value) if self.writes.contains_key(&value) => match self.settled(last.seen) {
                Some(settled) => acknowledged.filter(|write| write.invoked_us > settled).count(),
                None => 0,
            },
            // Another writer has overwritten the key. The number of writes that would be readable otherwise is unknown.
            OperationValue::Value(_) | OperationValue::Foreign(_) | OperationValue::Count(_) => usize::from(!self.acknowledged.is_empty()),
            OperationValue::Nothing | OperationValue::Elements(_) => 0,
        };
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    fn is_stale(&self, read: &RecordedOperation) -> bool {
        let before = self.acknowledged.partition_point(|(completed, _)| *completed < read.invoked_us);
        let Some((_, latest_invoked)) = before.checked_sub(1).and_then(|index| self.acknowledged.get(index)) else { return false };
        match read.seen {
            OperationValue::Absent => true,
            seen => self.settled(seen).is_some_and(|settled| *latest_invoked > settled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::simulated::{SimulatedHistory, sequence};
    use chaosrun_scenario::model::Model;

    fn judge(story: &SimulatedHistory) -> (u64, usize) {
        let checked = check(&story.history(Model::Register), &sequence(Model::Register));
        (checked.lost, checked.anomalies.len())
    }

    #[test]
    fn write_is_lost_only_if_the_state_went_back_behind_it() {
        let mut story = SimulatedHistory::default();
        let first = story.write(0, 10, 20, OperationOutcome::Acknowledged);
        let second = story.write(0, 30, 40, OperationOutcome::Acknowledged);
        story.last_read(0, 100, OperationValue::Value(second));
        assert_eq!(judge(&story), (0, 0));
        story.last_read(0, 110, OperationValue::Value(first));
        assert_eq!(judge(&story), (1, 0), "the later read counts");
        story.last_read(0, 120, OperationValue::Absent);
        assert_eq!(judge(&story), (2, 0));
        story.last_read(0, 130, OperationValue::Value(second));
        assert_eq!(judge(&story), (0, 0), "a second look may clear a suspicion");
    }

    #[test]
    fn concurrent_and_open_writes_explain_reads() {
        let mut story = SimulatedHistory::default();
        let open = story.write(0, 5, 50, OperationOutcome::Unknown);
        let first = story.write(0, 10, 30, OperationOutcome::Acknowledged);
        let second = story.write(0, 25, 40, OperationOutcome::Acknowledged);
        for explained in [open, first, second] {
            let mut story = story.clone();
            story.last_read(0, 100, OperationValue::Value(explained));
            assert_eq!(judge(&story), (0, 0));
        }
        // The read proves that the write without an answer has happened. The read must not be behind writes acknowledged later.
        let mut seen = story.clone();
        seen.read(0, 60, 70, OperationValue::Value(open));
        seen.write(0, 80, 90, OperationOutcome::Acknowledged);
        seen.last_read(0, 100, OperationValue::Value(open));
        assert_eq!(judge(&seen), (1, 0));
        // No client wrote this value.
        story.last_read(0, 100, OperationValue::Foreign(0));
        assert_eq!(judge(&story), (1, 0));
    }

    #[test]
    fn stale_reads_refused_writes_and_unread_keys_are_distinguished() {
        let mut story = SimulatedHistory::default();
        let first = story.write(0, 10, 20, OperationOutcome::Acknowledged);
        let second = story.write(0, 30, 40, OperationOutcome::Acknowledged);
        story.read(0, 35, 36, OperationValue::Value(first));
        assert_eq!(judge(&story), (0, 0), "the second write was under way");
        story.read(0, 41, 42, OperationValue::Value(first));
        let refused = story.write(0, 50, 60, OperationOutcome::Failed);
        story.read(0, 70, 80, OperationValue::Value(refused));
        story.last_read(0, 100, OperationValue::Value(second));
        let checked = check(&story.history(Model::Register), &sequence(Model::Register));
        assert_eq!((checked.lost, checked.read, checked.unread), (0, 1, 0));
        assert_eq!(checked.anomalies, ["1 stale read during the run", "1 read of a write that had been refused"]);
        // Another run with the same seed left this value before this run wrote it.
        let value = story.write(1, 10, 20, OperationOutcome::Acknowledged);
        story.read(1, 5, 6, OperationValue::Value(value));
        let checked = check(&story.history(Model::Register), &sequence(Model::Register));
        assert_eq!((checked.read, checked.unread), (1, 1));
        assert_eq!(checked.anomalies.last().map(String::as_str), Some("1 read of a value that no client wrote"));
    }
}
