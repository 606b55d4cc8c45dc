//! One of the sides of a comparison: what was recorded, with the last attempt of each trial.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::event::TrialRole;
use crate::store::outcomes::{Invocation, Outcome};

use super::metric::counts;

/// The control that waits.
pub const NOOP: &str = "noop";
/// The control that knows.
pub const ORACLE: &str = "oracle";

/// Variants whose worth is known: what they come to says something of the scenario, and nothing of an agent.
const CONTROLS: [&str; 3] = [NOOP, ORACLE, "restart_all"];

/// Whether a variant's worth is known.
#[must_use]
pub fn is_control(variant: &str) -> bool {
    CONTROLS.contains(&variant)
}

/// Trials of one agent, or of several, and what ran beside them.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// As the user named it.
    pub name: String,
    /// The subject's, the last attempt of each.
    pub subjects: Vec<Outcome>,
    /// Those of controls, the last attempt of each.
    pub controls: Arc<Vec<Outcome>>,
    /// What waiting and knowing came to, as controls or as variants of the matrix: what an uplift is measured by.
    pub bounds: Arc<Vec<Outcome>>,
    /// By variant of the subject: attempts that a later one of the same trial took the place of.
    pub superseded: BTreeMap<String, usize>,
    /// The attempts themselves: what was forbidden in them stays so.
    pub earlier: Vec<Outcome>,
    /// By variant of the subject: trials without an end, which no later attempt has replaced.
    pub unfinished: BTreeMap<String, usize>,
    pub invocations: Vec<Invocation>,
    /// What a baseline was judged by, which has no invocations.
    pub semantics: Option<u32>,
    /// The command that measures it again, when it is not its last invocation.
    pub renew: Option<String>,
}

/// What makes two recorded trials the same one, tried again.
type Identity<'a> = (&'a str, &'a str, &'a str, &'a str, u64, usize, TrialRole);

fn identity(outcome: &Outcome) -> Identity<'_> {
    let Outcome { scenario, variant, backend, cell, .. } = outcome;
    (scenario, variant, backend, cell, outcome.seed, outcome.repeat, outcome.role)
}

impl Side {
    /// `outcomes`: every attempt, in the order in which they were started.
    #[must_use]
    pub fn new(name: impl Into<String>, outcomes: Vec<Outcome>, invocations: Vec<Invocation>) -> Self {
        let mut last: HashMap<Identity<'_>, usize> = HashMap::with_capacity(outcomes.len());
        for (place, outcome) in outcomes.iter().enumerate() {
            // What was cut off says nothing of what was finished before it.
            if outcome.verdict.is_some() || !last.contains_key(&identity(outcome)) {
                last.insert(identity(outcome), place);
            }
        }
        let mut kept: Vec<usize> = last.into_values().collect();
        kept.sort_unstable();
        let mut side = Self { name: name.into(), invocations, ..Self::default() };
        let (mut kept, mut controls) = (kept.into_iter().peekable(), Vec::new());
        for (place, outcome) in outcomes.into_iter().enumerate() {
            let last = kept.next_if_eq(&place).is_some();
            let apart = match (last, outcome.verdict, outcome.role) {
                (true, Some(_), TrialRole::Subject) => {
                    side.subjects.push(outcome);
                    continue;
                }
                (true, Some(_), _) => {
                    controls.push(outcome);
                    continue;
                }
                (true, None, TrialRole::Subject) => &mut side.unfinished,
                (false, Some(_), TrialRole::Subject) => {
                    *side.superseded.entry(outcome.variant.clone()).or_default() += 1;
                    side.earlier.push(outcome);
                    continue;
                }
                _ => continue,
            };
            *apart.entry(outcome.variant).or_default() += 1;
        }
        let bounds = controls.iter().chain(&side.subjects).filter(|outcome| [NOOP, ORACLE].contains(&outcome.variant.as_str()));
        side.bounds = Arc::new(bounds.cloned().collect());
        side.controls = Arc::new(controls);
        side
    }

    /// Of the subject, in the order of their first trial.
    #[must_use]
    pub fn variants(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for outcome in &self.subjects {
            if !names.contains(&outcome.variant.as_str()) {
                names.push(&outcome.variant);
            }
        }
        names
    }

    /// The same with one variant as its subject.
    #[must_use]
    pub fn only(&self, variant: &str) -> Self {
        let of = |apart: &BTreeMap<String, usize>| {
            apart.get_key_value(variant).map(|(name, count)| (name.clone(), *count)).into_iter().collect()
        };
        Self {
            name: variant.to_owned(),
            subjects: self.subjects.iter().filter(|outcome| outcome.variant == variant).cloned().collect(),
            controls: Arc::clone(&self.controls),
            bounds: Arc::clone(&self.bounds),
            superseded: of(&self.superseded),
            earlier: self.earlier.iter().filter(|outcome| outcome.variant == variant).cloned().collect(),
            unfinished: of(&self.unfinished),
            invocations: self.invocations.clone(),
            semantics: self.semantics,
            renew: self.renew.clone(),
        }
    }

    /// The same with variants of the matrix that are controls among the controls, unless there is nothing else.
    #[must_use]
    pub fn with_controls_apart(mut self) -> Self {
        let (apart, subjects): (Vec<Outcome>, Vec<Outcome>) =
            std::mem::take(&mut self.subjects).into_iter().partition(|outcome| is_control(&outcome.variant));
        if subjects.is_empty() {
            self.subjects = apart;
            return self;
        }
        self.subjects = subjects;
        self.controls = Arc::new(self.controls.iter().cloned().chain(apart).collect());
        self
    }

    /// Every trial of the subject, with earlier ones of the same agent that a later one took the place of.
    pub fn ever(&self) -> impl Iterator<Item = &Outcome> {
        let agents: HashSet<(&str, &str)> =
            self.subjects.iter().map(|outcome| (outcome.variant.as_str(), outcome.subject.as_str())).collect();
        let same = move |outcome: &&Outcome| agents.contains(&(outcome.variant.as_str(), outcome.subject.as_str()));
        self.subjects.iter().chain(self.earlier.iter().filter(same))
    }

    /// The command that measures it again.
    #[must_use]
    pub fn renewal(&self) -> Option<String> {
        let quoted = |word: &String| {
            if word.contains(|c: char| c.is_whitespace() || "'\"$*{}".contains(c)) {
                format!("'{}'", word.replace('\'', "'\\''"))
            } else {
                word.clone()
            }
        };
        let again = |invocation: &Invocation| format!("chaosrun {}", invocation.arguments.iter().map(quoted).collect::<Vec<_>>().join(" "));
        self.renew.clone().or_else(|| self.invocations.last().map(again))
    }

    /// How many of the subject's trials count.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.subjects.iter().filter(|outcome| counts(outcome)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::outcome;
    use crate::event::Verdict;

    #[test]
    fn the_last_attempt_counts_and_what_was_cut_off_replaces_nothing() {
        let of = |verdict| outcome("node_kill", "playbook", 1, verdict);
        let again = vec![of(Some(Verdict::Invalid)), of(Some(Verdict::Pass)), of(None), outcome("node_kill", "playbook", 2, None)];
        let side = Side::new("a", again, Vec::new());
        assert_eq!(side.subjects.len(), 1);
        assert_eq!(side.subjects[0].verdict, Some(Verdict::Pass));
        assert_eq!((side.superseded["playbook"], side.unfinished["playbook"]), (1, 1));
    }

    #[test]
    fn a_control_of_the_matrix_is_a_control_unless_it_is_all_there_is() {
        let of = |variants: &[&str]| {
            let outcomes = variants.iter().map(|variant| outcome("node_kill", variant, 1, Some(Verdict::Pass)));
            Side::new("a", outcomes.collect(), Vec::new()).with_controls_apart()
        };
        let side = of(&["restart_all", "playbook", "noop"]);
        assert_eq!((side.variants(), side.controls.len()), (vec!["playbook"], 2));
        assert_eq!(of(&["restart_all"]).variants(), ["restart_all"]);
    }
}
