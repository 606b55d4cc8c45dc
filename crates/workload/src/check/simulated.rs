//! Test helpers: handwritten histories, and a simulated register that can lose a write on demand.

use proptest::prelude::*;

use super::check;
use crate::history::{History, OperationOutcome, OperationValue, RecordedOperation};
use crate::sequence::{OperationVerb, Sequence};
use chaosrun_scenario::model::{Model, WorkloadUse};

/// History that a test builds operation by operation. Each written value is unique.
#[derive(Debug, Clone, Default)]
pub(super) struct SimulatedHistory {
    operations: Vec<RecordedOperation>,
    last: Vec<RecordedOperation>,
}

pub(super) fn sequence(model: Model) -> Sequence {
    let usage = WorkloadUse { name: "kv".into(), clients: 4, rate: 100.0, read_ratio: 0.5 };
    Sequence::new(1, model, &usage, 8, 0, |_| true)
}

impl SimulatedHistory {
    pub(super) fn history(&self, model: Model) -> History {
        History { operations: self.operations.clone(), last: self.last.clone(), ..History::new(model) }
    }

    fn tell(
        &mut self,
        verb: OperationVerb,
        key: u32,
        value: u64,
        times: (u64, u64),
        outcome: OperationOutcome,
        seen: OperationValue,
    ) -> u64 {
        let (invoked_us, completed_us) = times;
        let operation = RecordedOperation { client: 0, verb, outcome, key, value, seen, intended_us: invoked_us, invoked_us, completed_us };
        self.operations.push(operation);
        value
    }

    fn fresh(&self) -> u64 {
        self.operations.len() as u64
    }

    pub(super) fn write(&mut self, key: u32, invoked: u64, completed: u64, outcome: OperationOutcome) -> u64 {
        self.tell(OperationVerb::Write, key, self.fresh(), (invoked, completed), outcome, OperationValue::Nothing)
    }

    pub(super) fn add(&mut self, key: u32, invoked: u64, completed: u64, outcome: OperationOutcome) -> u64 {
        self.tell(OperationVerb::Add, key, self.fresh(), (invoked, completed), outcome, OperationValue::Nothing)
    }

    pub(super) fn add_delta(&mut self, key: u32, delta: u64, invoked: u64, completed: u64, outcome: OperationOutcome) {
        self.tell(OperationVerb::Add, key, delta, (invoked, completed), outcome, OperationValue::Nothing);
    }

    pub(super) fn enqueue(&mut self, invoked: u64, completed: u64, outcome: OperationOutcome) -> u64 {
        self.tell(OperationVerb::Enqueue, 0, self.fresh(), (invoked, completed), outcome, OperationValue::Nothing)
    }

    pub(super) fn dequeue(&mut self, invoked: u64, completed: u64, outcome: OperationOutcome, seen: OperationValue) {
        self.tell(OperationVerb::Dequeue, 0, self.fresh(), (invoked, completed), outcome, seen);
    }

    pub(super) fn check(&mut self, key: u32, invoked: u64, completed: u64, outcome: OperationOutcome) {
        self.tell(OperationVerb::Check, key, self.fresh(), (invoked, completed), outcome, OperationValue::Nothing);
    }

    pub(super) fn read(&mut self, key: u32, invoked: u64, completed: u64, seen: OperationValue) {
        self.tell(OperationVerb::Read, key, self.fresh(), (invoked, completed), OperationOutcome::Acknowledged, seen);
    }

    pub(super) fn last_read(&mut self, key: u32, at: u64, seen: OperationValue) {
        self.read(key, at, at + 1, seen);
        self.last.extend(self.operations.pop());
    }

    pub(super) fn last_dequeue(&mut self, at: u64, seen: OperationValue) {
        self.dequeue(at, at + 1, OperationOutcome::Acknowledged, seen);
        self.last.extend(self.operations.pop());
    }
}

/// Time in microseconds at which all clients have ended and the last reads begin.
const END: u64 = 10_000;

/// Operation that a client sends to the simulated register.
#[derive(Debug, Clone)]
struct Planned {
    key: u32,
    read: bool,
    invoked: u64,
    took: u64,
    /// Time at which the operation takes effect, in percent of its duration.
    point: u64,
    /// Time from invocation to effect of an operation without an answer; `None` means that the operation is answered. Effects after the end
    /// never happen.
    open: Option<u64>,
}

fn planned() -> impl Strategy<Value = Planned> {
    (0..3_u32, any::<bool>(), 0..1000_u64, 1..60_u64, 0..=100_u64, prop::option::weighted(0.2, 0..15_000_u64))
        .prop_map(|(key, read, invoked, took, point, open)| Planned { key, read, invoked, took, point, open })
}

/// Runs the operations `plans` against one simulated register per key. The register forgets the effect of the write with the index
/// `losing`.
fn simulate(plans: &[Planned], losing: Option<usize>) -> SimulatedHistory {
    let mut story = SimulatedHistory::default();
    // Pairs of effect time and index. Reads and writes are ordered by effect.
    let mut effects: Vec<(u64, usize)> = plans
        .iter()
        .enumerate()
        .map(|(index, plan)| (plan.open.map_or(plan.invoked + plan.took * plan.point / 100, |late| plan.invoked + late), index))
        .collect();
    effects.sort_unstable();
    let mut state: [Option<u64>; 3] = [None; 3];
    let mut seen = vec![OperationValue::Nothing; plans.len()];
    let mut last = None;
    for (at, index) in effects {
        if at > END && last.is_none() {
            last = Some(state);
        }
        let plan = &plans[index];
        let slot = &mut state[plan.key as usize];
        if plan.read {
            seen[index] = slot.map_or(OperationValue::Absent, OperationValue::Value);
        } else if losing != Some(index) {
            *slot = Some(index as u64);
        }
    }
    for (index, plan) in plans.iter().enumerate() {
        let outcome = if plan.open.is_none() { OperationOutcome::Acknowledged } else { OperationOutcome::Unknown };
        let times = (plan.invoked, plan.invoked + plan.took);
        let (verb, seen) = if plan.read { (OperationVerb::Read, seen[index]) } else { (OperationVerb::Write, OperationValue::Nothing) };
        story.tell(verb, plan.key, index as u64, times, outcome, seen);
    }
    for (key, value) in (0..).zip(last.unwrap_or(state)) {
        story.last_read(key, END, value.map_or(OperationValue::Absent, OperationValue::Value));
    }
    story
}

proptest! {
    #[test]
    fn correct_register_never_fails(plans in prop::collection::vec(planned(), 0..80)) {
        let history = simulate(&plans, None).history(Model::Register);
        let checked = check(&history, &sequence(Model::Register));
        prop_assert_eq!((checked.lost, checked.anomalies), (0, vec![]));
        prop_assert!(super::register::suspects(&history).is_empty());
    }

    /// Checks that a forgotten write, acknowledged after all other writes, is always found.
    #[test]
    fn forgotten_write_is_always_found(mut plans in prop::collection::vec(planned(), 0..80), key in 0..3_u32) {
        for plan in &mut plans {
            // Writes without an answer could take effect afterwards and explain the loss.
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
