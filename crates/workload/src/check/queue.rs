//! Check of queue histories: every acknowledged element must have been dequeued by the time the queue is empty.

use std::collections::BTreeMap;

use super::CheckResult;
use crate::history::{History, OperationOutcome, OperationValue};
use crate::sequence::{OperationVerb, Sequence};

/// Checks a queue history. After the heal, clients drain the queue until the queue reports that it is empty. Each dequeue without an answer
/// may have taken one missing element. Only missing elements beyond that number are lost.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> CheckResult {
    let mut checked = CheckResult::default();
    let mut taken: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut open, mut strange) = (0_u64, 0);
    for dequeue in history.operations.iter().chain(&history.last).filter(|operation| operation.verb == OperationVerb::Dequeue) {
        match (dequeue.outcome, dequeue.seen) {
            (OperationOutcome::Acknowledged, OperationValue::Value(value)) => *taken.entry(value).or_default() += 1,
            (OperationOutcome::Acknowledged, OperationValue::Foreign(_) | OperationValue::Count(_)) => strange += 1,
            (OperationOutcome::Unknown, _) => open += 1,
            _ => {}
        }
    }
    let enqueues = || history.operations.iter().filter(|operation| operation.verb == OperationVerb::Enqueue);
    let drained =
        history.last.iter().any(|dequeue| dequeue.outcome == OperationOutcome::Acknowledged && dequeue.seen == OperationValue::Absent);
    if drained {
        checked.read = 1;
        let missing = || enqueues().filter(|add| add.outcome == OperationOutcome::Acknowledged && !taken.contains_key(&add.value));
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
        checked.unread = u64::from(enqueues().any(|enqueue| enqueue.outcome == OperationOutcome::Acknowledged));
    }
    let doubled = taken.values().filter(|times| **times > 1).count();
    checked.note(doubled, "element that came out twice", "elements that came out twice");
    checked.note(strange, "element that no client put in", "elements that no client put in");
    let refused = enqueues()
        .filter(|add| matches!(add.outcome, OperationOutcome::Failed | OperationOutcome::Missed) && taken.contains_key(&add.value))
        .count();
    checked.note(refused, "element whose enqueueing had been refused", "elements whose enqueueing had been refused");
    checked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::simulated::{SimulatedHistory, sequence};
    use chaosrun_scenario::model::Model;

    #[test]
    fn missing_elements_beyond_open_dequeues_are_lost() {
        let mut story = SimulatedHistory::default();
        let [first, second, third] = [0; 3].map(|_| story.enqueue(10, 20, OperationOutcome::Acknowledged));
        let open = story.enqueue(10, 20, OperationOutcome::Unknown);
        story.dequeue(30, 40, OperationOutcome::Acknowledged, OperationValue::Value(first));
        let judge = |story: &SimulatedHistory| check(&story.history(Model::Queue), &sequence(Model::Queue));
        assert_eq!((judge(&story).read, judge(&story).unread), (0, 1), "not drained: unknown");

        story.last_dequeue(100, OperationValue::Value(second));
        story.last_dequeue(110, OperationValue::Absent);
        let checked = judge(&story);
        assert_eq!((checked.lost, checked.read, checked.unread), (1, 1, 0));
        assert_eq!(checked.examples, [format!("`{}` was acknowledged and never came out", sequence(Model::Queue).value_text(third))]);

        let mut excused = story.clone();
        excused.dequeue(30, 60, OperationOutcome::Unknown, OperationValue::Nothing);
        assert_eq!(judge(&excused).lost, 0, "an unanswered dequeue may have taken it");

        story.last_dequeue(120, OperationValue::Value(third));
        story.last_dequeue(130, OperationValue::Value(open));
        story.last_dequeue(140, OperationValue::Value(first));
        let checked = judge(&story);
        assert_eq!((checked.lost, checked.anomalies), (0, vec!["1 element that came out twice".to_owned()]));
    }
}
