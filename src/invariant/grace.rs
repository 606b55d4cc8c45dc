//! Timers: a condition counts as violated once it has been broken for its `for`; unknown holds the last known state, or
//! counts as broken where the file says so.

use std::collections::HashMap;
use std::time::Duration;

use indexmap::IndexMap;

use super::evaluate::{Item, Judged, Judgement};
use crate::event::InvariantState;
use crate::expr::{Unknown, Why};
use crate::scenario::model::{Cluster, Invariant, OnUnknown};

/// The state of one invariant of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub invariant: usize,
    pub item: Item,
    pub node: Option<String>,
    /// What is known now; see [`State::counts_as_violated`] for what holds meanwhile.
    pub state: InvariantState,
    /// Of the last time it was broken.
    pub observed: String,
    pub expected: String,
    /// Why it is unknown now.
    pub unknown: Option<Unknown>,
    /// Since when it has been broken, as far as is known.
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

    /// Holds, or has not been broken for long enough. What cannot be seen is not fine, whatever it was before: it neither
    /// opens a ticket nor passes. Null alone is an answer, that there is nothing to tell (no request in the window), and
    /// leaves it as it was.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        match self.state {
            InvariantState::Holds | InvariantState::Pending => true,
            InvariantState::Violated => false,
            InvariantState::Unknown => {
                self.known == Some(Known::Holding) && self.unknown.as_ref().is_some_and(|unknown| unknown.why == Why::Null)
            }
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
    states: IndexMap<(usize, Item), State>,
}

impl Graces {
    /// Takes in what is judged at `now` (monotonic); gives the changes.
    ///
    /// A list that cannot be read says nothing of its items: they are unknown, not gone. A named item that a readable list no
    /// longer has is broken: a store that was taken off the list was not repaired. One known by its place alone just ends.
    pub fn update(&mut self, cluster: &Cluster, mut judged: Vec<Judged>, now: Duration) -> Vec<Transition> {
        let absent = self.absent(cluster, &judged);
        // The items speak for their list, once there are any.
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
            // Told as holding, so that its ticket closes.
            if !states.contains_key(key) && ended.state != InvariantState::Holds {
                let to = State { state: InvariantState::Holds, unknown: None, broken_since: None, known: None, ..ended.clone() };
                transitions.push(Transition { from: Some(ended.state), to });
            }
        }
        self.states = states;
        transitions
    }

    /// Judgements of items that were there before and are not judged now.
    fn absent(&self, cluster: &Cluster, judged: &[Judged]) -> Vec<Judged> {
        let mut lists: HashMap<usize, &Judged> = HashMap::new();
        for one in judged {
            lists.entry(one.invariant).or_insert(one);
        }
        let present = |key: &(usize, Item)| judged.iter().any(|one| one.invariant == key.0 && one.item == key.1);
        let mut absent = Vec::new();
        for (key, state) in self.states.iter().filter(|(key, _)| !present(key)) {
            let (Some(list), Some((_, invariant))) = (lists.get(&key.0), cluster.invariants.get_index(key.0)) else { continue };
            let judgement = match (&list.item, &list.judgement, &key.1) {
                // The list of an `each` as a whole: unreadable, or empty.
                (Item::Whole, Judgement::Unknown(unknown), Item::Named(_) | Item::At(_)) => Judgement::Unknown(unknown.clone()),
                (Item::Named(_), _, Item::Named(name)) => {
                    let observed = format!("`{name}` is no longer listed");
                    Judgement::Broken { observed, expected: invariant.expect.text.clone() }
                }
                _ => continue,
            };
            absent.push(Judged { invariant: key.0, item: key.1.clone(), node: state.node.clone(), judgement });
        }
        absent
    }

    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.states.values()
    }
}

fn step(before: Option<&State>, judged: Judged, of: &Invariant, now: Duration) -> State {
    let known = before.and_then(|before| before.known);
    let (mut observed, mut expected) = before.map(|before| (before.observed.clone(), before.expected.clone())).unwrap_or_default();
    let Judged { invariant, item, node, judgement } = judged;
    // While it cannot be seen whose item it is, it is still that node's.
    let node = node.or_else(|| before.and_then(|before| before.node.clone()));
    let mut unknown = None;
    let broken = match judgement {
        Judgement::Holds => false,
        Judgement::Broken { observed: now_observed, expected: now_expected } => {
            (observed, expected) = (now_observed, now_expected);
            true
        }
        Judgement::Unknown(reason) if of.unknown == OnUnknown::Violated => {
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
        if now.saturating_sub(since) >= of.hold {
            (InvariantState::Violated, Some(since), Some(Known::Violated))
        } else {
            (InvariantState::Pending, Some(since), known)
        }
    } else {
        (InvariantState::Holds, None, Some(Known::Holding))
    };
    State { invariant, item, node, state, observed, expected, unknown, broken_since, known }
}
