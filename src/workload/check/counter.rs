//! Counters: a read lies between what was certainly added and what may have been.

use std::collections::BTreeMap;

use super::{Checked, last_read};
use crate::workload::history::{History, Operation, Outcome, Seen};
use crate::workload::sequence::{Sequence, Verb};

/// Deltas are positive, so for a read: the sum of adds acknowledged before it began <= value <= the sum of adds that were begun before
/// it ended and did not certainly fail. Below, adds are lost; above, some were counted twice.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> Checked {
    let mut checked = Checked::default();
    let mut adds: BTreeMap<u32, Vec<&Operation>> = BTreeMap::new();
    for add in history.operations.iter().filter(|operation| operation.verb == Verb::Add) {
        adds.entry(add.key).or_default().push(add);
    }
    let (mut stale, mut over) = (0, 0);
    for (key, adds) in &adds {
        let timeline = Timeline::new(adds);
        for read in
            history.operations.iter().filter(|read| read.verb == Verb::Read && read.key == *key && read.outcome == Outcome::Acknowledged)
        {
            if let Some(value) = value(read.seen) {
                stale += usize::from(value < timeline.certain(read.invoked_us));
                over += usize::from(value > timeline.possible(read.completed_us));
            }
        }
        let Some((last, value)) = last_read(history, *key).and_then(|last| Some((last, value(last.seen)?))) else {
            checked.unread += u64::from(adds.iter().any(|add| add.outcome == Outcome::Acknowledged));
            continue;
        };
        checked.read += 1;
        let certain = timeline.certain(last.invoked_us);
        checked.lose(fewest(adds, certain - value), || {
            format!("{}: {certain} was added, acknowledged, the last read gave {value}", sequence.key_text(*key))
        });
        over += usize::from(value > timeline.possible(last.completed_us));
    }
    checked.note(stale, "stale read during the run", "stale reads during the run");
    checked.note(over, "read of more than was ever added", "reads of more than was ever added");
    checked
}

/// The keys whose last read so far is too low: worth another read before their adds are called lost.
#[must_use]
pub fn suspects(history: &History) -> Vec<u32> {
    let mut certain: BTreeMap<u32, i64> = BTreeMap::new();
    for add in history.operations.iter().filter(|add| add.verb == Verb::Add && add.outcome == Outcome::Acknowledged) {
        *certain.entry(add.key).or_default() += delta(add);
    }
    let low = |key: u32, certain: i64| last_read(history, key).and_then(|last| value(last.seen)).is_some_and(|value| value < certain);
    certain.into_iter().filter(|(key, certain)| low(*key, *certain)).map(|(key, _)| key).collect()
}

/// Running sums, so that many reads are judged quickly.
struct Timeline {
    /// (completion, sum so far) of acknowledged adds.
    certain: Vec<(u64, i64)>,
    /// (invocation, sum so far) of adds that may have happened.
    possible: Vec<(u64, i64)>,
}

impl Timeline {
    fn new(adds: &[&Operation]) -> Self {
        let sums = |mut steps: Vec<(u64, i64)>| {
            steps.sort_unstable();
            let mut sum = 0_i64;
            for (_, step) in &mut steps {
                sum = sum.saturating_add(*step);
                *step = sum;
            }
            steps
        };
        let acknowledged = adds.iter().filter(|add| add.outcome == Outcome::Acknowledged);
        let maybe = adds.iter().filter(|add| matches!(add.outcome, Outcome::Acknowledged | Outcome::Unknown));
        Self {
            certain: sums(acknowledged.map(|add| (add.completed_us, delta(add))).collect()),
            possible: sums(maybe.map(|add| (add.invoked_us, delta(add))).collect()),
        }
    }

    fn certain(&self, before_us: u64) -> i64 {
        Self::at(&self.certain, self.certain.partition_point(|(completed, _)| *completed < before_us))
    }

    fn possible(&self, until_us: u64) -> i64 {
        Self::at(&self.possible, self.possible.partition_point(|(invoked, _)| *invoked <= until_us))
    }

    fn at(sums: &[(u64, i64)], count: usize) -> i64 {
        count.checked_sub(1).and_then(|index| sums.get(index)).map_or(0, |(_, sum)| *sum)
    }
}

fn delta(add: &Operation) -> i64 {
    i64::try_from(add.value).unwrap_or(i64::MAX)
}

/// A counter that does not exist yet stands at 0.
fn value(seen: Seen) -> Option<i64> {
    match seen {
        Seen::Count(count) => Some(count),
        Seen::Absent => Some(0),
        _ => None,
    }
}

/// The fewest acknowledged adds that can make up `deficit`: at least so many are lost.
fn fewest(adds: &[&Operation], deficit: i64) -> u64 {
    let mut deltas: Vec<_> = adds.iter().filter(|add| add.outcome == Outcome::Acknowledged).map(|add| delta(add)).collect();
    deltas.sort_unstable_by(|a, b| b.cmp(a));
    let mut left = deficit;
    let mut count = 0;
    for delta in deltas {
        if left <= 0 {
            break;
        }
        left = left.saturating_sub(delta);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::model::Model;
    use crate::workload::check::simulated::{Story, sequence};

    #[test]
    fn a_count_lies_between_the_certain_and_the_possible() {
        let mut story = Story::default();
        story.add_delta(0, 5, 10, 20, Outcome::Acknowledged);
        story.add_delta(0, 3, 10, 30, Outcome::Acknowledged);
        story.add_delta(0, 4, 10, 40, Outcome::Unknown);
        story.add_delta(0, 9, 10, 40, Outcome::Failed);
        let judge = |count: i64| {
            let mut story = story.clone();
            story.last_read(0, 100, Seen::Count(count));
            let checked = check(&story.history(Model::Counter), &sequence(Model::Counter));
            (checked.lost, checked.anomalies.len())
        };
        assert_eq!(judge(8), (0, 0));
        assert_eq!(judge(12), (0, 0));
        assert_eq!(judge(13), (0, 1), "more than was ever added");
        assert_eq!(judge(7), (1, 0));
        assert_eq!(judge(2), (2, 0));
        story.read(0, 25, 26, Seen::Count(5));
        story.read(0, 35, 36, Seen::Count(5));
        let checked = check(&story.history(Model::Counter), &sequence(Model::Counter));
        assert_eq!((checked.read, checked.unread, checked.anomalies), (0, 1, vec!["1 stale read during the run".to_owned()]));
    }
}
