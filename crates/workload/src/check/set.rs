//! Check of set histories: the last read must contain all known elements (Jepsen's `set-full`).

use super::CheckResult;
use crate::history::{History, OperationOutcome};
use crate::sequence::{OperationVerb, Sequence};

/// Checks a set history. An element is *known* from its acknowledgement on, or from the first read that contains it. A known element is
/// lost if the last read was invoked later and does not contain it.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> CheckResult {
    let mut checked = CheckResult::default();
    let adds = || history.operations.iter().filter(|operation| operation.verb == OperationVerb::Add);
    let Some(last) = &history.set.last else {
        checked.unread = u64::from(adds().any(|add| add.outcome == OperationOutcome::Acknowledged));
        return checked;
    };
    checked.read = 1;
    let mut refused = 0;
    for add in adds() {
        let acknowledged = add.outcome == OperationOutcome::Acknowledged && add.completed_us < last.invoked_us;
        let seen = history.set.last_present_us.get(&add.value).is_some_and(|at| (add.invoked_us..last.invoked_us).contains(at));
        let present = last.elements.contains(&add.value);
        if (acknowledged || seen) && !present {
            checked.lose(1, || {
                let how = if acknowledged { "was acknowledged" } else { "had been read" };
                format!("`{}` {how} and is not in the set", sequence.value_text(add.value))
            });
        }
        refused += usize::from(present && matches!(add.outcome, OperationOutcome::Failed | OperationOutcome::Missed));
    }
    checked.note(refused, "element whose adding had been refused", "elements whose adding had been refused");
    let doubled = usize::try_from(history.set.doubled).unwrap_or(usize::MAX);
    checked.note(doubled, "element that was in the set twice", "elements that were in the set twice");
    checked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::simulated::{SimulatedHistory, sequence};
    use crate::history::SetRead;
    use chaosrun_scenario::model::Model;

    #[test]
    fn known_elements_must_stay_and_open_ones_may_be_absent() {
        let mut story = SimulatedHistory::default();
        let [kept, gone, open, vanished, refused] = [
            OperationOutcome::Acknowledged,
            OperationOutcome::Acknowledged,
            OperationOutcome::Unknown,
            OperationOutcome::Unknown,
            OperationOutcome::Failed,
        ]
        .map(|o| story.add(0, 10, 20, o));
        let mut history = story.history(Model::Set);
        let sequence = sequence(Model::Set);
        assert_eq!(check(&history, &sequence).unread, 1);

        history.set.last = Some(SetRead { invoked_us: 100, elements: [kept, gone, open].into_iter().collect() });
        assert_eq!(check(&history, &sequence), CheckResult { read: 1, ..CheckResult::default() });
        history.set.last = Some(SetRead { invoked_us: 100, elements: [kept].into_iter().collect() });
        assert_eq!(check(&history, &sequence).lost, 1);
        // The add was never acknowledged, but the element was read, so the add has happened.
        history.set.last_present_us.insert(vanished, 50);
        let checked = check(&history, &sequence);
        assert_eq!(checked.lost, 2);
        assert_eq!(checked.examples[1], format!("`{}` had been read and is not in the set", sequence.value_text(vanished)));
        history.set.last = Some(SetRead { invoked_us: 100, elements: [kept, gone, vanished, refused].into_iter().collect() });
        assert_eq!(check(&history, &sequence).anomalies, ["1 element whose adding had been refused"]);
    }
}
