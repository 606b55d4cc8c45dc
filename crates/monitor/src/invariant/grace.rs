//! Timers of invariants. A condition counts as violated once it has been broken for its duration `for`. An unknown value does not change
//! the last known state, or counts as broken if the file says so.

use std::collections::HashMap;
use std::time::Duration;

use indexmap::IndexMap;

use super::evaluate::{EvaluatedInvariant, InvariantResult, Item};
use chaosrun_event::InvariantState;
use chaosrun_expr::{Unknown, UnknownReason};
use chaosrun_scenario::model::{ClusterSpec, Invariant, OnUnknown};

/// State of one invariant for one item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GraceState {
    pub invariant: usize,
    pub item: Item,
    pub node: Option<String>,
    /// Present state of the invariant. While it is unknown, [`GraceState::counts_as_violated`] gives the state that applies.
    pub state: InvariantState,
    /// Description of the observed value at the last violation.
    pub observed: String,
    pub expected: String,
    /// Reason why the state is unknown now. `None` if the state is known.
    pub unknown: Option<Unknown>,
    /// Time at which the condition became broken, as far as known.
    broken_since: Option<Duration>,
    /// Last known state, which applies while the present state is unknown.
    known: Option<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Holding,
    Violated,
}

impl GraceState {
    /// Returns true if the condition has been broken for its duration `for`, now or in the last known state.
    #[must_use]
    pub fn counts_as_violated(&self) -> bool {
        self.state == InvariantState::Violated || (self.state == InvariantState::Unknown && self.known == Some(Known::Violated))
    }

    /// Returns true if the condition holds, or has been broken for less than its duration `for`. An unknown condition is not fine. Null is
    /// an exception, because it is an answer (such as no request in the window). Null does not change the last known state.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        match self.state {
            InvariantState::Holds | InvariantState::Pending => true,
            InvariantState::Violated => false,
            InvariantState::Unknown => {
                self.known == Some(Known::Holding) && self.unknown.as_ref().is_some_and(|unknown| unknown.why == UnknownReason::Null)
            }
        }
    }
}

/// Change of the state of an invariant for one item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transition {
    pub from: Option<InvariantState>,
    pub to: GraceState,
}

/// States of all invariants for all items. They change only through `update`.
#[derive(Debug, Default)]
pub(crate) struct Graces {
    states: IndexMap<(usize, Item), GraceState>,
}

impl Graces {
    /// Updates the states with results that were observed at the monotonic time `now`. Returns the changes.
    ///
    /// * Items of a list that cannot be read are unknown, not gone.
    /// * A named item that is missing from a readable list is broken: a store that was removed from the list was not repaired.
    /// * An item that is identified only by its position ends.
    pub fn update(&mut self, cluster: &ClusterSpec, mut judged: Vec<EvaluatedInvariant>, now: Duration) -> Vec<Transition> {
        let absent = self.absent(cluster, &judged);
        // If there are any items, they represent their list.
        judged.retain(|one| one.item != Item::Whole || absent.iter().all(|item| item.invariant != one.invariant));
        judged.extend(absent);
        let mut states = IndexMap::with_capacity(judged.len());
        let mut transitions = Vec::new();
        for one in judged {
            let Some((_, invariant)) = cluster.invariants.get_index(one.invariant) else { continue };
            let key = (one.invariant, one.item.clone());
            let before = self.states.get(&key);
            let from = before.map(|before| before.state);
            let next = step(before, one, invariant, now);
            if from != Some(next.state) {
                transitions.push(Transition { from, to: next.clone() });
            }
            states.insert(key, next);
        }
        for (key, ended) in &self.states {
            // Reported as holding, so that its ticket closes.
            if !states.contains_key(key) && ended.state != InvariantState::Holds {
                let to = GraceState { state: InvariantState::Holds, unknown: None, broken_since: None, known: None, ..ended.clone() };
                transitions.push(Transition { from: Some(ended.state), to });
            }
        }
        self.states = states;
        transitions
    }

    /// Returns results for items that existed before and are missing in `judged`.
    fn absent(&self, cluster: &ClusterSpec, judged: &[EvaluatedInvariant]) -> Vec<EvaluatedInvariant> {
        let mut lists: HashMap<usize, &EvaluatedInvariant> = HashMap::new();
        for one in judged {
            lists.entry(one.invariant).or_insert(one);
        }
        let present = |key: &(usize, Item)| judged.iter().any(|one| one.invariant == key.0 && one.item == key.1);
        let mut absent = Vec::new();
        for (key, state) in self.states.iter().filter(|(key, _)| !present(key)) {
            let (Some(list), Some((_, invariant))) = (lists.get(&key.0), cluster.invariants.get_index(key.0)) else { continue };
            let judgement = match (&list.item, &list.judgement, &key.1) {
                // The list of an `each` as a whole: unreadable, or empty.
                (Item::Whole, InvariantResult::Unknown(unknown), Item::Named(_) | Item::At(_)) => InvariantResult::Unknown(unknown.clone()),
                (Item::Named(_), _, Item::Named(name)) => {
                    let observed = format!("`{name}` is no longer listed");
                    InvariantResult::Broken { observed, expected: invariant.expect.text.clone() }
                }
                _ => continue,
            };
            absent.push(EvaluatedInvariant { invariant: key.0, item: key.1.clone(), node: state.node.clone(), judgement });
        }
        absent
    }

    pub fn states(&self) -> impl Iterator<Item = &GraceState> {
        self.states.values()
    }
}

fn step(before: Option<&GraceState>, judged: EvaluatedInvariant, of: &Invariant, now: Duration) -> GraceState {
    let known = before.and_then(|before| before.known);
    let (mut observed, mut expected) = before.map(|before| (before.observed.clone(), before.expected.clone())).unwrap_or_default();
    let EvaluatedInvariant { invariant, item, node, judgement } = judged;
    // While the node of an item cannot be observed, the item keeps its last node.
    let node = node.or_else(|| before.and_then(|before| before.node.clone()));
    let mut unknown = None;
    let broken = match judgement {
        InvariantResult::Holds => false,
        InvariantResult::Broken { observed: now_observed, expected: now_expected } => {
            (observed, expected) = (now_observed, now_expected);
            true
        }
        InvariantResult::Unknown(reason) if of.unknown == OnUnknown::Violated => {
            (observed, expected) = (format!("unknown: {}", reason.reason), "to be known".into());
            unknown = Some(reason);
            true
        }
        InvariantResult::Unknown(reason) => {
            // The time of the violation continues: an unknown value between two violations does not restart it.
            let broken_since = before.and_then(|before| before.broken_since);
            let state = InvariantState::Unknown;
            return GraceState { invariant, item, node, state, observed, expected, unknown: Some(reason), broken_since, known };
        }
    };
    let (state, broken_since, known) = if broken {
        let since = before.and_then(|before| before.broken_since).unwrap_or(now);
        if now.saturating_sub(since) >= of.hold {
            (InvariantState::Violated, Some(since), Some(Known::Violated))
        } else {
            (InvariantState::Pending, Some(since), known)
        }
    } else {
        (InvariantState::Holds, None, Some(Known::Holding))
    };
    GraceState { invariant, item, node, state, observed, expected, unknown, broken_since, known }
}
