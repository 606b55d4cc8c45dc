//! Results of each case, together with the results of the same case in the baseline.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::baseline::{Baseline, BaselineCase, BaselineKey, key};
use super::checks::GateFinding;
use crate::compare::metric::{counts, passed};
use crate::compare::side::Side;
use chaosrun_cluster::backend::is_default;
use chaosrun_event::Verdict;
use chaosrun_stats::proportion::Proportion;
use chaosrun_store::outcomes::TrialOutcome;

/// Results of one combination of scenario, variant, backend and cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseResults {
    pub scenario: String,
    pub variant: String,
    pub backend: String,
    pub cell: String,
    pub file: String,
    /// True if the case is a control. Reports show controls, but the gate does not judge them.
    pub control: bool,
    pub now: Proportion,
    pub invalid: usize,
    /// Pass rate in the baseline, on the seeds of the baseline. `None` if the baseline does not contain the case.
    pub before: Option<Proportion>,
    /// True if the case passed reliably in the baseline. The gate then blocks if all trials of the case fail.
    pub admitted: bool,
}

impl CaseResults {
    /// Returns the display name of the case, such as `node_kill/playbook`, with backend and matrix cell where necessary.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.scenario, &self.variant, &self.backend, &self.cell)
    }
}

/// Formats the name of a case, such as `node_kill/playbook`. The name contains the backend unless it is `local`, and the matrix cell unless
/// it is empty.
#[must_use]
pub fn name(scenario: &str, variant: &str, backend: &str, cell: &str) -> String {
    let backend = if is_default(backend) { String::new() } else { format!(" on {backend}") };
    let cell = if cell == "{}" { String::new() } else { format!(" {cell}") };
    format!("{scenario}/{variant}{backend}{cell}")
}

#[must_use]
pub fn name_of(outcome: &TrialOutcome) -> String {
    name(&outcome.scenario, &outcome.variant, &outcome.backend, &outcome.cell)
}

#[must_use]
pub(crate) fn name_of_case(case: &BaselineCase) -> String {
    name(&case.scenario, &case.variant, &case.backend, &case.cell.to_string())
}

/// Returns all cases, sorted, with subjects before controls.
#[must_use]
pub fn seen(side: &Side, baseline: Option<&Baseline>) -> Vec<CaseResults> {
    let mut by_case: BTreeMap<(bool, BaselineKey), Vec<&TrialOutcome>> = BTreeMap::new();
    for (control, outcomes) in [(false, &side.subjects), (true, &*side.controls)] {
        for outcome in outcomes {
            by_case.entry((control, key(outcome))).or_default().push(outcome);
        }
    }
    let mut all = Vec::new();
    for ((control, key), outcomes) in by_case {
        let known = baseline.filter(|_| !control).and_then(|baseline| baseline.cases.iter().find(|case| case.key() == key));
        let (scenario, variant, backend, cell) = key;
        all.push(CaseResults {
            scenario,
            variant,
            backend,
            cell,
            file: outcomes.first().map(|outcome| outcome.file.clone()).unwrap_or_default(),
            control,
            now: Proportion::of(outcomes.iter().filter(|outcome| counts(outcome)).map(|outcome| passed(outcome))),
            invalid: outcomes.iter().filter(|outcome| outcome.verdict == Some(Verdict::Invalid)).count(),
            before: known.map(|case| Proportion::of(case.trials.iter().map(|kept| kept.verdict == Verdict::Pass))),
            // A case with another yardstick is another test, so its history does not apply.
            admitted: known.is_some_and(|case| {
                case.is_admitted() && outcomes.iter().filter(|outcome| counts(outcome)).all(|outcome| outcome.yardstick == case.yardstick)
            }),
        });
    }
    all
}

/// Finds cases whose trials come from several versions of the agent or were measured in different ways. The result of such a case describes
/// no single version.
#[must_use]
pub fn mixed(side: &Side) -> Vec<GateFinding> {
    let mut by_case: BTreeMap<BaselineKey, Vec<&TrialOutcome>> = BTreeMap::new();
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
            let words = format!("its trials are from {}; run the campaign again and name only that run", several.join(" and "));
            found.push(GateFinding { case: name_of(first), file: Some(first.file.clone()), words, trial: None });
        }
    }
    found
}
