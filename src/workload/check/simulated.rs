//! For tests: stories told by hand, and a simulated register that is right, or loses a write on demand.

use proptest::prelude::*;

use super::check;
use crate::scenario::model::{Model, WorkloadUse};
use crate::workload::history::{History, Operation, Outcome, Seen};
use crate::workload::sequence::{Sequence, Verb};

/// A history told operation by operation; each value is new.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    operations: Vec<Operation>,
    last: Vec<Operation>,
}

pub(super) fn sequence(model: Model) -> Sequence {
    let usage = WorkloadUse { name: "kv".into(), clients: 4, rate: 100.0, read_ratio: 0.5 };
    Sequence::new(1, model, &usage, 8, 0, |_| true)
}

impl Story {
    pub(super) fn history(&self, model: Model) -> History {
        History { operations: self.operations.clone(), last: self.last.clone(), ..History::new(model) }
    }

    fn tell(&mut self, verb: Verb, key: u32, value: u64, times: (u64, u64), outcome: Outcome, seen: Seen) -> u64 {
        let (invoked_us, completed_us) = times;
        let operation = Operation { client: 0, verb, outcome, key, value, seen, intended_us: invoked_us, invoked_us, completed_us };
        self.operations.push(operation);
        value
    }

    fn fresh(&self) -> u64 {
        self.operations.len() as u64
    }

    pub(super) fn write(&mut self, key: u32, invoked: u64, completed: u64, outcome: Outcome) -> u64 {
        self.tell(Verb::Write, key, self.fresh(), (invoked, completed), outcome, Seen::Nothing)
    }

    pub(super) fn add(&mut self, key: u32, invoked: u64, completed: u64, outcome: Outcome) -> u64 {
        self.tell(Verb::Add, key, self.fresh(), (invoked, completed), outcome, Seen::Nothing)
    }

    pub(super) fn add_delta(&mut self, key: u32, delta: u64, invoked: u64, completed: u64, outcome: Outcome) {
        self.tell(Verb::Add, key, delta, (invoked, completed), outcome, Seen::Nothing);
    }

    pub(super) fn enqueue(&mut self, invoked: u64, completed: u64, outcome: Outcome) -> u64 {
        self.tell(Verb::Enqueue, 0, self.fresh(), (invoked, completed), outcome, Seen::Nothing)
    }

    pub(super) fn dequeue(&mut self, invoked: u64, completed: u64, outcome: Outcome, seen: Seen) {
        self.tell(Verb::Dequeue, 0, self.fresh(), (invoked, completed), outcome, seen);
    }

    pub(super) fn check(&mut self, key: u32, invoked: u64, completed: u64, outcome: Outcome) {
        self.tell(Verb::Check, key, self.fresh(), (invoked, completed), outcome, Seen::Nothing);
    }

    pub(super) fn read(&mut self, key: u32, invoked: u64, completed: u64, seen: Seen) {
        self.tell(Verb::Read, key, self.fresh(), (invoked, completed), Outcome::Acknowledged, seen);
    }

    pub(super) fn last_read(&mut self, key: u32, at: u64, seen: Seen) {
        self.read(key, at, at + 1, seen);
        self.last.extend(self.operations.pop());
    }

    pub(super) fn last_dequeue(&mut self, at: u64, seen: Seen) {
        self.dequeue(at, at + 1, Outcome::Acknowledged, seen);
        self.last.extend(self.operations.pop());
    }
}

/// When everybody has ended and the last reads begin.
const END: u64 = 10_000;

/// One operation as a simulated register sees it.
#[derive(Debug, Clone)]
struct Planned {
    key: u32,
    read: bool,
    invoked: u64,
    took: u64,
    /// Where within its time it takes effect: 0 to 100 %.
    point: u64,
    /// No answer: 0 = answered; else the effect comes so much later, or never beyond the end.
    open: Option<u64>,
}

fn planned() -> impl Strategy<Value = Planned> {
    (0..3_u32, any::<bool>(), 0..1000_u64, 1..60_u64, 0..=100_u64, prop::option::weighted(0.2, 0..15_000_u64))
        .prop_map(|(key, read, invoked, took, point, open)| Planned { key, read, invoked, took, point, open })
}

/// Runs the plans against a register for each key. `losing` is asked at every effect of a write whether it shall be forgotten.
fn simulate(plans: &[Planned], losing: Option<usize>) -> Story {
    let mut story = Story::default();
    // (moment of effect, index); reads and writes in the order in which they take effect.
    let mut effects: Vec<(u64, usize)> = plans
        .iter()
        .enumerate()
        .map(|(index, plan)| (plan.open.map_or(plan.invoked + plan.took * plan.point / 100, |late| plan.invoked + late), index))
        .collect();
    effects.sort_unstable();
    let mut state: [Option<u64>; 3] = [None; 3];
    let mut seen = vec![Seen::Nothing; plans.len()];
    let mut last = None;
    for (at, index) in effects {
        if at > END && last.is_none() {
            last = Some(state);
        }
        let plan = &plans[index];
        let slot = &mut state[plan.key as usize];
        if plan.read {
            seen[index] = slot.map_or(Seen::Absent, Seen::Value);
        } else if losing != Some(index) {
            *slot = Some(index as u64);
        }
    }
    for (index, plan) in plans.iter().enumerate() {
        let outcome = if plan.open.is_none() { Outcome::Acknowledged } else { Outcome::Unknown };
        let times = (plan.invoked, plan.invoked + plan.took);
        let (verb, seen) = if plan.read { (Verb::Read, seen[index]) } else { (Verb::Write, Seen::Nothing) };
        story.tell(verb, plan.key, index as u64, times, outcome, seen);
    }
    for (key, value) in (0..).zip(last.unwrap_or(state)) {
        story.last_read(key, END, value.map_or(Seen::Absent, Seen::Value));
    }
    story
}

proptest! {
    #[test]
    fn a_right_register_is_never_accused(plans in prop::collection::vec(planned(), 0..80)) {
        let history = simulate(&plans, None).history(Model::Register);
        let checked = check(&history, &sequence(Model::Register));
        prop_assert_eq!((checked.lost, checked.anomalies), (0, vec![]));
        prop_assert!(super::register::suspects(&history).is_empty());
    }

    /// The last write of a key is acknowledged after all others are over, and forgotten.
    #[test]
    fn a_forgotten_write_is_always_found(mut plans in prop::collection::vec(planned(), 0..80), key in 0..3_u32) {
        for plan in &mut plans {
            // An open write could take effect afterwards and excuse the loss.
            plan.open = None;
        }
        plans.push(Planned { key, read: false, invoked: 2000, took: 5, point: 50, open: None });
        let lost = plans.len() - 1;
        let history = simulate(&plans, Some(lost)).history(Model::Register);
        let checked = check(&history, &sequence(Model::Register));
        prop_assert_eq!(checked.lost, 1);
        prop_assert_eq!(super::register::suspects(&history), vec![key]);
    }
}
