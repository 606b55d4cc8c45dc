//! Sets: what was known to be in must be in the last read (Jepsen's `set-full`).

use super::Checked;
use crate::workload::history::{History, Outcome};
use crate::workload::sequence::{Sequence, Verb};

/// An element is *known* from its acknowledgement on, or from the first read that saw it. It is lost when the last read, invoked after
/// that, does not have it.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> Checked {
    let mut checked = Checked::default();
    let adds = || history.operations.iter().filter(|operation| operation.verb == Verb::Add);
    let Some(last) = &history.set.last else {
        checked.unread = u64::from(adds().any(|add| add.outcome == Outcome::Acknowledged));
        return checked;
    };
    checked.read = 1;
    let mut refused = 0;
    for add in adds() {
        let acknowledged = add.outcome == Outcome::Acknowledged && add.completed_us < last.invoked_us;
        let seen = history.set.last_present_us.get(&add.value).is_some_and(|at| (add.invoked_us..last.invoked_us).contains(at));
        let present = last.elements.contains(&add.value);
        if (acknowledged || seen) && !present {
            checked.lose(1, || {
                let how = if acknowledged { "was acknowledged" } else { "had been read" };
                format!("`{}` {how} and is not in the set", sequence.value_text(add.value))
            });
        }
        refused += usize::from(present && matches!(add.outcome, Outcome::Failed | Outcome::Missed));
    }
    checked.note(refused, "element whose adding had been refused", "elements whose adding had been refused");
    let doubled = usize::try_from(history.set.doubled).unwrap_or(usize::MAX);
    checked.note(doubled, "element that was in the set twice", "elements that were in the set twice");
    checked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::model::Model;
    use crate::workload::check::simulated::{Story, sequence};
    use crate::workload::history::SetRead;

    #[test]
    fn known_elements_must_stay_and_open_ones_may_do_as_they_like() {
        let mut story = Story::default();
        let [kept, gone, open, vanished, refused] =
            [Outcome::Acknowledged, Outcome::Acknowledged, Outcome::Unknown, Outcome::Unknown, Outcome::Failed]
                .map(|o| story.add(0, 10, 20, o));
        let mut history = story.history(Model::Set);
        let sequence = sequence(Model::Set);
        assert_eq!(check(&history, &sequence).unread, 1);

        history.set.last = Some(SetRead { invoked_us: 100, elements: [kept, gone, open].into_iter().collect() });
        assert_eq!(check(&history, &sequence), Checked { read: 1, ..Checked::default() });
        history.set.last = Some(SetRead { invoked_us: 100, elements: [kept].into_iter().collect() });
        assert_eq!(check(&history, &sequence).lost, 1);
        // Never acknowledged, but seen: then it had happened.
        history.set.last_present_us.insert(vanished, 50);
        let checked = check(&history, &sequence);
        assert_eq!(checked.lost, 2);
        assert_eq!(checked.examples[1], format!("`{}` had been read and is not in the set", sequence.value_text(vanished)));
        history.set.last = Some(SetRead { invoked_us: 100, elements: [kept, gone, vanished, refused].into_iter().collect() });
        assert_eq!(check(&history, &sequence).anomalies, ["1 element whose adding had been refused"]);
    }
}
