//! Queues: what went in, acknowledged, must have come out by the time the queue is empty.

use std::collections::BTreeMap;

use super::Checked;
use crate::workload::history::{History, Outcome, Seen};
use crate::workload::sequence::{Sequence, Verb};

/// After the heal the queue is drained until it says that it is empty. Elements that are missing then may have been taken by dequeues
/// whose answers were lost, one each; only what is missing beyond their number is lost.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> Checked {
    let mut checked = Checked::default();
    let mut taken: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut open, mut strange) = (0_u64, 0);
    for dequeue in history.operations.iter().chain(&history.last).filter(|operation| operation.verb == Verb::Dequeue) {
        match (dequeue.outcome, dequeue.seen) {
            (Outcome::Acknowledged, Seen::Value(value)) => *taken.entry(value).or_default() += 1,
            (Outcome::Acknowledged, Seen::Foreign(_) | Seen::Count(_)) => strange += 1,
            (Outcome::Unknown, _) => open += 1,
            _ => {}
        }
    }
    let enqueues = || history.operations.iter().filter(|operation| operation.verb == Verb::Enqueue);
    let drained = history.last.iter().any(|dequeue| dequeue.outcome == Outcome::Acknowledged && dequeue.seen == Seen::Absent);
    if drained {
        checked.read = 1;
        let missing = || enqueues().filter(|add| add.outcome == Outcome::Acknowledged && !taken.contains_key(&add.value));
        let count = u64::try_from(missing().count()).unwrap_or(u64::MAX);
        let examples = missing().map(|add| format!("`{}` was acknowledged and never came out", sequence.value_text(add.value)));
        let lost = count.saturating_sub(open);
        for (index, example) in examples.take(super::EXAMPLES).enumerate() {
            if u64::try_from(index).is_ok_and(|index| index < lost) {
                checked.lose(1, || example);
            }
        }
        checked.lost = lost;
        if lost == 0 && count > 0 {
            checked.anomalies.push(format!("{count} missing, which {open} dequeues without an answer may have taken"));
        }
    } else {
        checked.unread = u64::from(enqueues().any(|enqueue| enqueue.outcome == Outcome::Acknowledged));
    }
    let doubled = taken.values().filter(|times| **times > 1).count();
    checked.note(doubled, "element that came out twice", "elements that came out twice");
    checked.note(strange, "element that no client put in", "elements that no client put in");
    let refused =
        enqueues().filter(|add| matches!(add.outcome, Outcome::Failed | Outcome::Missed) && taken.contains_key(&add.value)).count();
    checked.note(refused, "element whose enqueueing had been refused", "elements whose enqueueing had been refused");
    checked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::model::Model;
    use crate::workload::check::simulated::{Story, sequence};

    #[test]
    fn what_is_missing_beyond_the_open_dequeues_is_lost() {
        let mut story = Story::default();
        let [first, second, third] = [0; 3].map(|_| story.enqueue(10, 20, Outcome::Acknowledged));
        let open = story.enqueue(10, 20, Outcome::Unknown);
        story.dequeue(30, 40, Outcome::Acknowledged, Seen::Value(first));
        let judge = |story: &Story| check(&story.history(Model::Queue), &sequence(Model::Queue));
        assert_eq!((judge(&story).read, judge(&story).unread), (0, 1), "not drained: unknown");

        story.last_dequeue(100, Seen::Value(second));
        story.last_dequeue(110, Seen::Absent);
        let checked = judge(&story);
        assert_eq!((checked.lost, checked.read, checked.unread), (1, 1, 0));
        assert_eq!(checked.examples, [format!("`{}` was acknowledged and never came out", sequence(Model::Queue).value_text(third))]);

        let mut excused = story.clone();
        excused.dequeue(30, 60, Outcome::Unknown, Seen::Nothing);
        assert_eq!(judge(&excused).lost, 0, "an unanswered dequeue may have taken it");

        story.last_dequeue(120, Seen::Value(third));
        story.last_dequeue(130, Seen::Value(open));
        story.last_dequeue(140, Seen::Value(first));
        let checked = judge(&story);
        assert_eq!((checked.lost, checked.anomalies), (0, vec!["1 element that came out twice".to_owned()]));
    }
}
