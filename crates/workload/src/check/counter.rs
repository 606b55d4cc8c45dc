//! Check of counter histories: the value read lies between the sum of certain adds and the sum of possible adds.

use std::collections::BTreeMap;

use super::{CheckResult, last_read};
use crate::history::{History, OperationOutcome, OperationValue, RecordedOperation};
use crate::sequence::{OperationVerb, Sequence};

/// Checks a counter history. Deltas are positive, so the value read has two bounds. The lower bound is the sum of adds acknowledged before
/// the read began. The upper bound is the sum of adds that began before the read ended and did not certainly fail. A lower value means lost
/// adds. A higher value means adds counted twice.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> CheckResult {
    let mut checked = CheckResult::default();
    let mut adds: BTreeMap<u32, Vec<&RecordedOperation>> = BTreeMap::new();
    for add in history.operations.iter().filter(|operation| operation.verb == OperationVerb::Add) {
        adds.entry(add.key).or_default().push(add);
    }
    let (mut stale, mut over) = (0, 0);
    for (key, adds) in &adds {
        let timeline = Timeline::new(adds);
        for read in history
            .operations
            .iter()
            .filter(|read| read.verb == OperationVerb::Read && read.key == *key && read.outcome == OperationOutcome::Acknowledged)
        {
            if let Some(value) = value(read.seen) {
                stale += usize::from(value < timeline.certain(read.invoked_us));
                over += usize::from(value > timeline.possible(read.completed_us));
            }
        }
        let Some((last, value)) = last_read(history, *key).and_then(|last| Some((last, value(last.seen)?))) else {
            checked.unread += u64::from(adds.iter().any(|add| add.outcome == OperationOutcome::Acknowledged));
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

/// Returns the keys whose last read shows a too low value. The caller reads these keys again before their adds count as lost.
#[must_use]
pub(crate) fn suspects(history: &History) -> Vec<u32> {
    let mut certain: BTreeMap<u32, i64> = BTreeMap::new();
    for add in history.operations.iter().filter(|add| add.verb == OperationVerb::Add && add.outcome == OperationOutcome::Acknowledged) {
        *certain.entry(add.key).or_default() += delta(add);
    }
    let low = |key: u32, certain: i64| last_read(history, key).and_then(|last| value(last.seen)).is_some_and(|value| value < certain);
    certain.into_iter().filter(|(key, certain)| low(*key, *certain)).map(|(key, _)| key).collect()
}

/// Prefix sums of the adds to a counter over time, for a fast check of many reads.
struct Timeline {
    /// Pairs of completion time in microseconds and prefix sum of the acknowledged adds.
    certain: Vec<(u64, i64)>,
    /// Pairs of invocation time in microseconds and prefix sum of the adds that may have happened.
    possible: Vec<(u64, i64)>,
}

impl Timeline {
    fn new(adds: &[&RecordedOperation]) -> Self {
        let sums = |mut steps: Vec<(u64, i64)>| {
            steps.sort_unstable();
            let mut sum = 0_i64;
            for (_, step) in &mut steps {
                sum = sum.saturating_add(*step);
                *step = sum;
            }
            steps
        };
        let acknowledged = adds.iter().filter(|add| add.outcome == OperationOutcome::Acknowledged);
        let maybe = adds.iter().filter(|add| matches!(add.outcome, OperationOutcome::Acknowledged | OperationOutcome::Unknown));
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

fn delta(add: &RecordedOperation) -> i64 {
    i64::try_from(add.value).unwrap_or(i64::MAX)
}

/// Returns the value of the counter that was read. A counter that does not exist yet has the value 0. Returns `None` for anything else.
fn value(seen: OperationValue) -> Option<i64> {
    match seen {
        OperationValue::Count(count) => Some(count),
        OperationValue::Absent => Some(0),
        _ => None,
    }
}

/// Returns the smallest number of acknowledged adds that can add up to `deficit`. At least this number of adds is lost.
fn fewest(adds: &[&RecordedOperation], deficit: i64) -> u64 {
    let mut deltas: Vec<_> = adds.iter().filter(|add| add.outcome == OperationOutcome::Acknowledged).map(|add| delta(add)).collect();
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
    use crate::check::simulated::{SimulatedHistory, sequence};
    use chaosrun_scenario::model::Model;

    #[test]
    fn count_lies_between_certain_and_possible_sum() {
        let mut story = SimulatedHistory::default();
        story.add_delta(0, 5, 10, 20, OperationOutcome::Acknowledged);
        story.add_delta(0, 3, 10, 30, OperationOutcome::Acknowledged);
        story.add_delta(0, 4, 10, 40, OperationOutcome::Unknown);
        story.add_delta(0, 9, 10, 40, OperationOutcome::Failed);
        let judge = |count: i64| {
            let mut story = story.clone();
            story.last_read(0, 100, OperationValue::Count(count));
            let checked = check(&story.history(Model::Counter), &sequence(Model::Counter));
            (checked.lost, checked.anomalies.len())
        };
        assert_eq!(judge(8), (0, 0));
        assert_eq!(judge(12), (0, 0));
        assert_eq!(judge(13), (0, 1), "more than was ever added");
        assert_eq!(judge(7), (1, 0));
        assert_eq!(judge(2), (2, 0));
        story.read(0, 25, 26, OperationValue::Count(5));
        story.read(0, 35, 36, OperationValue::Count(5));
        let checked = check(&story.history(Model::Counter), &sequence(Model::Counter));
        assert_eq!((checked.read, checked.unread, checked.anomalies), (0, 1, vec!["1 stale read during the run".to_owned()]));
    }
}
