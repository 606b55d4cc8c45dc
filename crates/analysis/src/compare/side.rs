//! One side of a comparison: recorded trials with the last attempt of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chaosrun_event::TrialRole;
use chaosrun_store::outcomes::{Invocation, TrialOutcome};

use super::metric::counts;

/// Name of the control variant that does nothing.
pub(crate) const NOOP: &str = "noop";
/// Name of the control variant that knows the injected faults.
pub(crate) const ORACLE: &str = "oracle";

/// Names of the control variants, whose results describe the scenario and not an agent.
const CONTROLS: [&str; 3] = [NOOP, ORACLE, "restart_all"];

/// Returns true if the variant is a control.
#[must_use]
pub fn is_control(variant: &str) -> bool {
    CONTROLS.contains(&variant)
}

/// Trials of one or several agents, with the control trials of the same runs.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// Name of the side, as given by the user.
    pub name: String,
    /// Last attempts of the subject's trials.
    pub subjects: Vec<TrialOutcome>,
    /// Last attempts of the control trials.
    pub controls: Arc<Vec<TrialOutcome>>,
    /// Trials of `noop` and `oracle`, whether run as controls or as variants of the matrix. They define the scale of the uplift.
    pub bounds: Arc<Vec<TrialOutcome>>,
    /// Number of attempts that a later attempt replaced, by variant of the subject.
    pub superseded: BTreeMap<String, usize>,
    /// Attempts that a later attempt replaced. A forbidden action in such an attempt still counts.
    pub earlier: Vec<TrialOutcome>,
    /// Number of trials whose last attempt has not ended, by variant of the subject.
    pub unfinished: BTreeMap<String, usize>,
    pub invocations: Vec<Invocation>,
    /// Version of the rules that decide verdicts, if the side comes from a baseline file. `None` for recorded runs.
    pub semantics: Option<u32>,
    /// Command that runs the trials of this side again. `None` if the command of the last recorded run does so.
    pub renew: Option<String>,
}

/// Identity of a trial: attempts with the same identity are attempts at the same trial.
type Identity<'a> = (&'a str, &'a str, &'a str, &'a str, u64, usize, TrialRole);

fn identity(outcome: &TrialOutcome) -> Identity<'_> {
    let TrialOutcome { scenario, variant, backend, cell, .. } = outcome;
    (scenario, variant, backend, cell, outcome.seed, outcome.repeat, outcome.role)
}

impl Side {
    /// Builds a side from all attempts in `outcomes`, which are in the order in which they started.
    #[must_use]
    pub fn new(name: impl Into<String>, outcomes: Vec<TrialOutcome>, invocations: Vec<Invocation>) -> Self {
        let mut last: HashMap<Identity<'_>, usize> = HashMap::with_capacity(outcomes.len());
        for (place, outcome) in outcomes.iter().enumerate() {
            // An interrupted attempt does not replace a finished one.
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

    /// Returns the variants of the subject, in the order of their first trials.
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

    /// Returns a copy of the side whose only subject is this variant.
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

    /// Moves control variants of the matrix to the controls. Returns the side unchanged if the matrix has only controls.
    #[must_use]
    pub fn with_controls_apart(mut self) -> Self {
        let (apart, subjects): (Vec<TrialOutcome>, Vec<TrialOutcome>) =
            std::mem::take(&mut self.subjects).into_iter().partition(|outcome| is_control(&outcome.variant));
        if subjects.is_empty() {
            self.subjects = apart;
            return self;
        }
        self.subjects = subjects;
        self.controls = Arc::new(self.controls.iter().cloned().chain(apart).collect());
        self
    }

    /// Returns all attempts at the subject's trials, including replaced attempts by the same agents.
    pub fn ever(&self) -> impl Iterator<Item = &TrialOutcome> {
        let agents: HashSet<(&str, &str)> =
            self.subjects.iter().map(|outcome| (outcome.variant.as_str(), outcome.subject.as_str())).collect();
        let same = move |outcome: &&TrialOutcome| agents.contains(&(outcome.variant.as_str(), outcome.subject.as_str()));
        self.subjects.iter().chain(self.earlier.iter().filter(same))
    }

    /// Returns the command that runs the trials of this side again. Returns `None` if no command is known.
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

    /// Returns the number of the subject's trials with a verdict other than invalid.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.subjects.iter().filter(|outcome| counts(outcome)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::outcome;
    use chaosrun_event::Verdict;

    #[test]
    fn last_attempt_counts_and_interrupted_one_replaces_nothing() {
        let of = |verdict| outcome("node_kill", "playbook", 1, verdict);
        let again = vec![of(Some(Verdict::Invalid)), of(Some(Verdict::Pass)), of(None), outcome("node_kill", "playbook", 2, None)];
        let side = Side::new("a", again, Vec::new());
        assert_eq!(side.subjects.len(), 1);
        assert_eq!(side.subjects[0].verdict, Some(Verdict::Pass));
        assert_eq!((side.superseded["playbook"], side.unfinished["playbook"]), (1, 1));
    }

    #[test]
    fn matrix_controls_are_controls_unless_there_is_no_subject() {
        let of = |variants: &[&str]| {
            let outcomes = variants.iter().map(|variant| outcome("node_kill", variant, 1, Some(Verdict::Pass)));
            Side::new("a", outcomes.collect(), Vec::new()).with_controls_apart()
        };
        let side = of(&["restart_all", "playbook", "noop"]);
        assert_eq!((side.variants(), side.controls.len()), (vec!["playbook"], 2));
        assert_eq!(of(&["restart_all"]).variants(), ["restart_all"]);
    }
}
