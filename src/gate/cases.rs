//! What was run, case by case, beside what the baseline has of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::baseline::{Baseline, Case, Key, key};
use super::rung::Finding;
use crate::compare::metric::{counts, passed};
use crate::compare::side::Side;
use crate::event::Verdict;
use crate::stats::proportion::Proportion;
use crate::store::outcomes::Outcome;

/// A scenario with a variant, on a backend, in a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    pub scenario: String,
    pub variant: String,
    pub backend: String,
    pub cell: String,
    pub file: String,
    /// Shown beside the subject, and not judged.
    pub control: bool,
    pub now: Proportion,
    pub invalid: usize,
    /// By the baseline, on the seeds of then. None: it does not have the case.
    pub before: Option<Proportion>,
    /// Known to be steady, so that it blocks by failing altogether.
    pub admitted: bool,
}

impl Seen {
    /// `node_kill/playbook`, with whatever else sets it apart.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.scenario, &self.variant, &self.backend, &self.cell)
    }
}

/// `node_kill/playbook`; backends other than `local` and cells are told.
#[must_use]
pub fn name(scenario: &str, variant: &str, backend: &str, cell: &str) -> String {
    let backend = if backend == "local" { String::new() } else { format!(" on {backend}") };
    let cell = if cell == "{}" { String::new() } else { format!(" {cell}") };
    format!("{scenario}/{variant}{backend}{cell}")
}

#[must_use]
pub fn name_of(outcome: &Outcome) -> String {
    name(&outcome.scenario, &outcome.variant, &outcome.backend, &outcome.cell)
}

#[must_use]
pub fn name_of_case(case: &Case) -> String {
    name(&case.scenario, &case.variant, &case.backend, &case.cell.to_string())
}

/// Sorted, the subject's before the controls.
#[must_use]
pub fn seen(side: &Side, baseline: Option<&Baseline>) -> Vec<Seen> {
    let mut by_case: BTreeMap<(bool, Key), Vec<&Outcome>> = BTreeMap::new();
    for (control, outcomes) in [(false, &side.subjects), (true, &*side.controls)] {
        for outcome in outcomes {
            by_case.entry((control, key(outcome))).or_default().push(outcome);
        }
    }
    let mut all = Vec::new();
    for ((control, key), outcomes) in by_case {
        let known = baseline.filter(|_| !control).and_then(|baseline| baseline.cases.iter().find(|case| case.key() == key));
        let (scenario, variant, backend, cell) = key;
        all.push(Seen {
            scenario,
            variant,
            backend,
            cell,
            file: outcomes.first().map(|outcome| outcome.file.clone()).unwrap_or_default(),
            control,
            now: Proportion::of(outcomes.iter().filter(|outcome| counts(outcome)).map(|outcome| passed(outcome))),
            invalid: outcomes.iter().filter(|outcome| outcome.verdict == Some(Verdict::Invalid)).count(),
            before: known.map(|case| Proportion::of(case.trials.iter().map(|kept| kept.verdict == Verdict::Pass))),
            // By another yardstick it is another test, and nothing is known of it.
            admitted: known.is_some_and(|case| {
                case.is_admitted() && outcomes.iter().filter(|outcome| counts(outcome)).all(|outcome| outcome.yardstick == case.yardstick)
            }),
        });
    }
    all
}

/// Cases whose trials are of several versions of the agent, or were not all measured alike: what they come to is true of no version.
#[must_use]
pub fn mixed(side: &Side) -> Vec<Finding> {
    let mut by_case: BTreeMap<Key, Vec<&Outcome>> = BTreeMap::new();
    for outcome in &side.subjects {
        by_case.entry(key(outcome)).or_default().push(outcome);
    }
    let mut found = Vec::new();
    for outcomes in by_case.into_values() {
        let Some(first) = outcomes.first() else { continue };
        let counted = || outcomes.iter().filter(|outcome| counts(outcome));
        let subjects: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.subject.as_str()).collect();
        let yardsticks: BTreeSet<&str> = counted().map(|outcome| outcome.yardstick.as_str()).collect();
        let scorers: BTreeSet<u32> = counted().filter_map(|outcome| outcome.scorer_version).collect();
        let of = [(subjects.len(), "versions of the agent"), (yardsticks.len(), "yardsticks"), (scorers.len(), "versions of the scorer")];
        let several: Vec<String> = of.iter().filter(|(count, _)| *count > 1).map(|(count, of)| format!("{count} {of}")).collect();
        if !several.is_empty() {
            let words = format!("its trials are of {}; run it anew, and name that run alone", several.join(" and "));
            found.push(Finding { case: name_of(first), file: Some(first.file.clone()), words, trial: None });
        }
    }
    found
}
