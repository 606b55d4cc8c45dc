//! Timers: a condition counts as violated once it has been broken for its `for`; unknown holds the last known state, or
//! counts as broken where the file says so.

use std::time::Duration;

use indexmap::IndexMap;

use super::evaluate::{Judged, Judgement};
use crate::event::InvariantState;
use crate::expr::Unknown;
use crate::scenario::model::{Cluster, OnUnknown};

/// The state of one invariant of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub invariant: usize,
    pub item: String,
    pub node: Option<String>,
    /// `Unknown` only as long as nothing has been known yet, or while it is told; see [`State::counts_as_violated`].
    pub state: InvariantState,
    /// Of the last time it was broken.
    pub observed: String,
    pub expected: String,
    /// Why it is unknown now.
    pub unknown: Option<Unknown>,
    /// Since when it has been broken.
    broken_since: Option<Duration>,
    /// What holds while it is unknown.
    known: Option<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Holding,
    Violated,
}

impl State {
    /// Whether it is broken for long enough, now or as far as is known.
    #[must_use]
    pub fn counts_as_violated(&self) -> bool {
        self.state == InvariantState::Violated || (self.state == InvariantState::Unknown && self.known == Some(Known::Violated))
    }

    /// Holds, or is not known to be broken for long enough since it last held.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        match self.state {
            InvariantState::Holds => true,
            InvariantState::Violated => false,
            InvariantState::Pending => self.known != Some(Known::Violated),
            InvariantState::Unknown => self.known == Some(Known::Holding),
        }
    }
}

/// A change of state.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub from: Option<InvariantState>,
    pub to: State,
}

/// All states. `update` is the only way they change.
#[derive(Debug, Default)]
pub struct Graces {
    states: IndexMap<(usize, String), State>,
}

impl Graces {
    /// Takes in what is judged at `now` (monotonic); gives the changes. An item that is no longer listed keeps its last state
    /// when it was violated (a store that vanished from a list was not repaired), and is forgotten otherwise.
    pub fn update(&mut self, cluster: &Cluster, judged: Vec<Judged>, now: Duration) -> Vec<Transition> {
        let mut transitions = Vec::new();
        let mut seen = Vec::with_capacity(judged.len());
        let mut whole_unknown = Vec::new();
        for one in judged {
            let Some((_, invariant)) = cluster.invariants.get_index(one.invariant) else { continue };
            if one.item.is_empty() && invariant.each.is_some() {
                whole_unknown.push(one.invariant);
            }
            let key = (one.invariant, one.item.clone());
            seen.push(key.clone());
            let before = self.states.get(&key);
            let next = step(before, one, invariant.hold, invariant.unknown, now);
            let from = before.map(|before| before.state);
            let changed = before.is_none_or(|before| before.state != next.state);
            if changed {
                transitions.push(Transition { from, to: next.clone() });
            }
            self.states.insert(key, next);
        }
        // A list that cannot be read now says nothing about its items: they are unknown, not gone.
        let graces = &mut self.states;
        graces.retain(|key, state| seen.contains(key) || whole_unknown.contains(&key.0) || state.counts_as_violated());
        // The placeholder of an unreadable list goes once the list is read again.
        graces.retain(|(index, item), _| {
            let is_placeholder = item.is_empty() && cluster.invariants.get_index(*index).is_some_and(|(_, of)| of.each.is_some());
            !is_placeholder || whole_unknown.contains(index)
        });
        for (key, state) in graces.iter_mut() {
            if whole_unknown.contains(&key.0) && !seen.contains(key) && state.state != InvariantState::Unknown {
                state.state = InvariantState::Unknown;
                state.broken_since = None;
                transitions.push(Transition { from: None, to: state.clone() });
            }
        }
        transitions
    }

    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.states.values()
    }
}

fn step(before: Option<&State>, judged: Judged, hold: Duration, on_unknown: OnUnknown, now: Duration) -> State {
    let known = before.and_then(|before| before.known);
    let (mut observed, mut expected) = before.map(|before| (before.observed.clone(), before.expected.clone())).unwrap_or_default();
    let Judged { invariant, item, node, judgement } = judged;
    let mut unknown = None;
    let broken = match judgement {
        Judgement::Holds => false,
        Judgement::Broken { observed: now_observed, expected: now_expected } => {
            (observed, expected) = (now_observed, now_expected);
            true
        }
        Judgement::Unknown(reason) if on_unknown == OnUnknown::Violated => {
            (observed, expected) = (format!("unknown: {}", reason.reason), "to be known".into());
            unknown = Some(reason);
            true
        }
        Judgement::Unknown(reason) => {
            // The time of being broken goes on: an unknown between two breaks does not start it anew.
            let broken_since = before.and_then(|before| before.broken_since);
            let state = InvariantState::Unknown;
            return State { invariant, item, node, state, observed, expected, unknown: Some(reason), broken_since, known };
        }
    };
    let (state, broken_since, known) = if broken {
        let since = before.and_then(|before| before.broken_since).unwrap_or(now);
        if now.saturating_sub(since) >= hold {
            (InvariantState::Violated, Some(since), Some(Known::Violated))
        } else {
            (InvariantState::Pending, Some(since), known)
        }
    } else {
        (InvariantState::Holds, None, Some(Known::Holding))
    };
    State { invariant, item, node, state, observed, expected, unknown, broken_since, known }
}
