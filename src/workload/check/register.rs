//! Registers: what the last read of a key gave must not be older than what was acknowledged.

use std::collections::{BTreeMap, HashMap};

use super::{Checked, last_read};
use crate::workload::history::{History, Operation, Outcome, Seen};
use crate::workload::sequence::{Sequence, Verb};

/// All that happened to one key.
#[derive(Default)]
struct Key<'a> {
    writes: HashMap<u64, &'a Operation>,
    reads: Vec<&'a Operation>,
    /// Value -> the moment by which its write had certainly taken effect: its acknowledgement, or the first read of it.
    settled_us: HashMap<u64, u64>,
    /// Acknowledged writes by completion: (completed, the latest invocation among those completed so far).
    acknowledged: Vec<(u64, u64)>,
}

/// A read of the value of write `w` is *behind* a write `w'` when `w'` was acknowledged and was invoked only after `w` had taken effect.
/// After the heal each such `w'` is lost: the state has gone back to before it. During the run it is a stale read.
/// Writes without an answer explain whatever they can, late as it may be.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> Checked {
    let mut checked = Checked::default();
    let (mut stale, mut refused, mut foreign) = (0, 0, 0);
    for (number, key) in keys(history) {
        for read in key.reads.iter().filter(|read| read.outcome == Outcome::Acknowledged) {
            stale += usize::from(key.is_stale(read));
            match read.seen {
                Seen::Value(value) => match key.writes.get(&value) {
                    Some(write) if write.invoked_us <= read.completed_us => refused += usize::from(!took_effect(write)),
                    // A value that is yet to be written was left behind by another run of this seed.
                    _ => foreign += 1,
                },
                Seen::Foreign(_) => foreign += 1,
                _ => {}
            }
        }
        let Some(last) = last_read(history, number) else {
            checked.unread += u64::from(!key.acknowledged.is_empty());
            continue;
        };
        checked.read += 1;
        checked.lose(key.lost(last), || {
            let newest = key.writes.values().filter(|write| write.outcome == Outcome::Acknowledged).max_by_key(|write| write.completed_us);
            let name = sequence.key_text(number);
            let found = match last.seen {
                Seen::Value(value) => format!("`{}`, which is older", sequence.value_text(value)),
                Seen::Foreign(_) => format!("`{}`, which no client wrote", history.foreign_text(last.seen)),
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

/// The keys whose last read so far cannot be explained: worth another read before they are called lost.
#[must_use]
pub fn suspects(history: &History) -> Vec<u32> {
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
            Verb::Read => key.reads.push(operation),
            verb if verb.stores() => {
                key.writes.insert(operation.value, operation);
                if operation.outcome == Outcome::Acknowledged {
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
            if let (Outcome::Acknowledged, Seen::Value(value)) = (read.outcome, read.seen)
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

/// Whether a write may have happened at all.
fn took_effect(write: &Operation) -> bool {
    matches!(write.outcome, Outcome::Acknowledged | Outcome::Unknown)
}

impl Key<'_> {
    fn settle(&mut self, value: u64, at_us: u64) {
        let settled = self.settled_us.entry(value).or_insert(at_us);
        *settled = (*settled).min(at_us);
    }

    /// By when what was read had certainly taken effect. None: it cannot be placed, or it may have been at any time.
    fn settled(&self, seen: Seen) -> Option<u64> {
        match seen {
            Seen::Value(value) if self.writes.contains_key(&value) => self.settled_us.get(&value).copied(),
            // The state before all writes.
            Seen::Absent => Some(0),
            _ => None,
        }
    }

    /// Acknowledged writes that the last read proves lost.
    fn lost(&self, last: &Operation) -> u64 {
        let acknowledged = self.writes.values().filter(|write| write.outcome == Outcome::Acknowledged);
        let lost = match last.seen {
            Seen::Absent => acknowledged.count(),
            Seen::Value(value) if self.writes.contains_key(&value) => match self.settled(last.seen) {
                Some(settled) => acknowledged.filter(|write| write.invoked_us > settled).count(),
                None => 0,
            },
            // Overwritten by somebody else; how much would have been readable otherwise, nobody can tell.
            Seen::Value(_) | Seen::Foreign(_) | Seen::Count(_) => usize::from(!self.acknowledged.is_empty()),
            Seen::Nothing | Seen::Elements(_) => 0,
        };
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    fn is_stale(&self, read: &Operation) -> bool {
        let before = self.acknowledged.partition_point(|(completed, _)| *completed < read.invoked_us);
        let Some((_, latest_invoked)) = before.checked_sub(1).and_then(|index| self.acknowledged.get(index)) else { return false };
        match read.seen {
            Seen::Absent => true,
            seen => self.settled(seen).is_some_and(|settled| *latest_invoked > settled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::model::Model;
    use crate::workload::check::simulated::{Story, sequence};

    fn judge(story: &Story) -> (u64, usize) {
        let checked = check(&story.history(Model::Register), &sequence(Model::Register));
        (checked.lost, checked.anomalies.len())
    }

    #[test]
    fn a_write_is_lost_only_when_the_state_went_back_behind_it() {
        let mut story = Story::default();
        let first = story.write(0, 10, 20, Outcome::Acknowledged);
        let second = story.write(0, 30, 40, Outcome::Acknowledged);
        story.last_read(0, 100, Seen::Value(second));
        assert_eq!(judge(&story), (0, 0));
        story.last_read(0, 110, Seen::Value(first));
        assert_eq!(judge(&story), (1, 0), "the later read counts");
        story.last_read(0, 120, Seen::Absent);
        assert_eq!(judge(&story), (2, 0));
        story.last_read(0, 130, Seen::Value(second));
        assert_eq!(judge(&story), (0, 0), "a second look may clear a suspicion");
    }

    #[test]
    fn concurrent_and_open_writes_explain_whatever_they_can() {
        let mut story = Story::default();
        let open = story.write(0, 5, 50, Outcome::Unknown);
        let first = story.write(0, 10, 30, Outcome::Acknowledged);
        let second = story.write(0, 25, 40, Outcome::Acknowledged);
        for explained in [open, first, second] {
            let mut story = story.clone();
            story.last_read(0, 100, Seen::Value(explained));
            assert_eq!(judge(&story), (0, 0));
        }
        // Once it has been read, an open write has happened: what was acknowledged later must not be behind it.
        let mut seen = story.clone();
        seen.read(0, 60, 70, Seen::Value(open));
        seen.write(0, 80, 90, Outcome::Acknowledged);
        seen.last_read(0, 100, Seen::Value(open));
        assert_eq!(judge(&seen), (1, 0));
        // Nobody wrote it.
        story.last_read(0, 100, Seen::Foreign(0));
        assert_eq!(judge(&story), (1, 0));
    }

    #[test]
    fn stale_reads_refused_writes_and_unread_keys_are_told_apart() {
        let mut story = Story::default();
        let first = story.write(0, 10, 20, Outcome::Acknowledged);
        let second = story.write(0, 30, 40, Outcome::Acknowledged);
        story.read(0, 35, 36, Seen::Value(first));
        assert_eq!(judge(&story), (0, 0), "the second write was under way");
        story.read(0, 41, 42, Seen::Value(first));
        let refused = story.write(0, 50, 60, Outcome::Failed);
        story.read(0, 70, 80, Seen::Value(refused));
        story.last_read(0, 100, Seen::Value(second));
        let checked = check(&story.history(Model::Register), &sequence(Model::Register));
        assert_eq!((checked.lost, checked.read, checked.unread), (0, 1, 0));
        assert_eq!(checked.anomalies, ["1 stale read during the run", "1 read of a write that had been refused"]);
        // Left behind by another run of the same seed, before this one wrote it.
        let value = story.write(1, 10, 20, Outcome::Acknowledged);
        story.read(1, 5, 6, Seen::Value(value));
        let checked = check(&story.history(Model::Register), &sequence(Model::Register));
        assert_eq!((checked.read, checked.unread), (1, 1));
        assert_eq!(checked.anomalies.last().map(String::as_str), Some("1 read of a value that no client wrote"));
    }
}
