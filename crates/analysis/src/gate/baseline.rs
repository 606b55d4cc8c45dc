//! Baseline file: accepted results in a small JSON file without dates. The file is kept in git and reviewed as a diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compare::metric::{counts, passed, rounded};
use crate::compare::side::Side;
use chaosrun_event::{TrialRole, Verdict};
use chaosrun_store::outcomes::TrialOutcome;

/// Version of the file format.
const FORMAT: u32 = 1;
/// Minimum number of trials of an admitted case, of which at least 19 in 20 must have passed. The gate blocks if all trials of an admitted
/// case fail.
const ADMITTED: usize = 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Version of the baseline file's format.
    pub baseline: u32,
    /// Name of the campaign or scenario.
    pub name: String,
    /// Version of the rules that decide verdicts.
    pub semantics: u32,
    /// Ids of the most recently accepted runs. If one of these runs is accepted again, its trials are not counted twice.
    pub runs: Vec<String>,
    /// Cases of the baseline, sorted by key.
    pub cases: Vec<BaselineCase>,
}

/// Results of one combination of scenario, variant, backend and cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineCase {
    pub scenario: String,
    pub variant: String,
    pub backend: String,
    pub cell: Value,
    pub file: String,
    pub yardstick: String,
    pub subject: String,
    pub scorer: u32,
    /// Number of counted trials over all accepted runs that were measured in the same way.
    pub runs: usize,
    pub passes: usize,
    /// Trials of the most recently accepted runs, sorted.
    pub trials: Vec<BaselineEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineEntry {
    pub seed: u64,
    pub repeat: usize,
    pub verdict: Verdict,
    pub score: Option<f64>,
}

/// Key of a case: scenario, variant, backend and cell.
pub type BaselineKey = (String, String, String, String);

impl BaselineCase {
    #[must_use]
    pub fn key(&self) -> BaselineKey {
        (self.scenario.clone(), self.variant.clone(), self.backend.clone(), self.cell.to_string())
    }

    /// Returns true if the case passed reliably in enough trials. The gate blocks if all trials of such a case fail.
    #[must_use]
    pub const fn is_admitted(&self) -> bool {
        self.runs >= ADMITTED && self.passes * 20 >= self.runs * 19
    }
}

#[must_use]
pub fn key(outcome: &TrialOutcome) -> BaselineKey {
    (outcome.scenario.clone(), outcome.variant.clone(), outcome.backend.clone(), outcome.cell.clone())
}

impl Baseline {
    /// Parses a baseline file.
    ///
    /// # Errors
    /// The text is not a baseline file. The message names the position of the problem.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if found.baseline != FORMAT {
            return Err(format!("its format is {}, this version supports {FORMAT}", found.baseline));
        }
        Ok(found)
    }

    /// Builds a new baseline from accepted results. The counts of a case are added to those of the previous baseline if both were measured
    /// in the same way.
    #[must_use]
    pub fn accepted(previous: Option<&Self>, name: &str, side: &Side) -> Self {
        let mut by_case: BTreeMap<BaselineKey, Vec<&TrialOutcome>> = BTreeMap::new();
        for outcome in side.subjects.iter().filter(|outcome| counts(outcome)) {
            by_case.entry(key(outcome)).or_default().push(outcome);
        }
        // Uses the runs that executed the trials, not the resumed runs that reused them. So no trial is counted twice.
        let mut runs: Vec<String> = side.subjects.iter().filter_map(|outcome| outcome.run.as_ref()).map(ToString::to_string).collect();
        runs.sort_unstable();
        runs.dedup();
        let again = previous.is_some_and(|previous| previous.runs.iter().any(|run| runs.contains(run)));
        for run in previous.into_iter().flat_map(|previous| &previous.runs) {
            if !runs.contains(run) && runs.len() < REMEMBERED {
                runs.push(run.clone());
            }
        }
        let cases = by_case.into_iter().filter_map(|(key, outcomes)| {
            let before = previous.and_then(|previous| previous.cases.iter().find(|case| case.key() == key));
            case(before, &outcomes, again)
        });
        Self {
            baseline: FORMAT,
            name: name.to_owned(),
            semantics: side.invocations.iter().map(|invocation| invocation.semantics).max().or(side.semantics).unwrap_or_default(),
            cases: cases.collect(),
            runs,
        }
    }

    /// Returns the trials of the baseline as one side of a comparison.
    #[must_use]
    pub fn side(&self) -> Side {
        let outcomes = self.cases.iter().flat_map(|case| case.trials.iter().map(|kept| outcome(case, kept)));
        let side = Side::new(format!("baseline {}", self.name), outcomes.collect(), Vec::new());
        Side { semantics: Some(self.semantics), renew: Some("chaosrun gate CAMPAIGN --baseline FILE --accept".into()), ..side }
    }

    /// Formats the baseline as JSON with one line per trial, so that a diff shows which trials changed.
    #[must_use]
    pub fn text(&self) -> String {
        let json = |value: &dyn erased::Json| value.json();
        let mut text = format!("{{\n  \"baseline\": {},\n  \"name\": {},\n", self.baseline, json(&self.name));
        let _ = write!(text, "  \"semantics\": {},\n  \"runs\": {},\n  \"cases\": [", self.semantics, json(&self.runs));
        for (place, case) in self.cases.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let _ = write!(text, "{comma}\n    {{\n");
            let fields: [(&str, &dyn erased::Json); 10] = [
                ("scenario", &case.scenario),
                ("variant", &case.variant),
                ("backend", &case.backend),
                ("cell", &case.cell),
                ("file", &case.file),
                ("yardstick", &case.yardstick),
                ("subject", &case.subject),
                ("scorer", &case.scorer),
                ("runs", &case.runs),
                ("passes", &case.passes),
            ];
            for (name, value) in fields {
                let _ = writeln!(text, "      \"{name}\": {},", json(value));
            }
            text.push_str("      \"trials\": [");
            for (place, kept) in case.trials.iter().enumerate() {
                let comma = if place > 0 { "," } else { "" };
                let _ = write!(text, "{comma}\n        {}", json(kept));
            }
            text.push_str("\n      ]\n    }");
        }
        text.push_str("\n  ]\n}\n");
        text
    }
}

mod erased {
    /// Value that can be written as JSON in one line.
    pub(super) trait Json {
        fn json(&self) -> String;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> String {
            serde_json::to_string(self).unwrap_or_default()
        }
    }
}

/// Maximum number of ids of accepted runs that a baseline stores.
const REMEMBERED: usize = 100;

fn case(before: Option<&BaselineCase>, outcomes: &[&TrialOutcome], again: bool) -> Option<BaselineCase> {
    let first = outcomes.first()?;
    let passes = outcomes.iter().filter(|outcome| passed(outcome)).count();
    // A case with a changed yardstick is another test, so the old counts do not apply.
    let (runs, passes) = match before.filter(|before| before.yardstick == first.yardstick) {
        Some(before) if again => (before.runs, before.passes),
        Some(before) => (before.runs + outcomes.len(), before.passes + passes),
        None => (outcomes.len(), passes),
    };
    let mut trials: Vec<BaselineEntry> = outcomes
        .iter()
        .filter_map(|outcome| {
            // Rounds as `MetricValue::Score` rounds both sides. Rounding only one side would create a difference.
            let score = outcome.score.map(rounded);
            Some(BaselineEntry { seed: outcome.seed, repeat: outcome.repeat, verdict: outcome.verdict?, score })
        })
        .collect();
    trials.sort_by_key(|kept| (kept.seed, kept.repeat));
    Some(BaselineCase {
        scenario: first.scenario.clone(),
        variant: first.variant.clone(),
        backend: first.backend.clone(),
        cell: serde_json::from_str(&first.cell).unwrap_or_default(),
        file: first.file.clone(),
        yardstick: first.yardstick.clone(),
        subject: first.subject.clone(),
        scorer: first.scorer_version.unwrap_or_default(),
        runs,
        passes,
        trials,
    })
}

fn outcome(case: &BaselineCase, kept: &BaselineEntry) -> TrialOutcome {
    TrialOutcome {
        trial: None,
        run: None,
        number: 0,
        scenario: case.scenario.clone(),
        file: case.file.clone(),
        variant: case.variant.clone(),
        seed: kept.seed,
        repeat: kept.repeat,
        attempt: 1,
        backend: case.backend.clone(),
        role: TrialRole::Subject,
        cell: case.cell.to_string(),
        yardstick: case.yardstick.clone(),
        subject: case.subject.clone(),
        verdict: Some(kept.verdict),
        score: kept.score,
        scorer_version: Some(case.scorer),
        reason_code: None,
        reason: None,
        detect_us: None,
        diagnose_us: None,
        repair_us: None,
        impact_us: None,
        tokens: None,
        usd: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    #[test]
    fn baseline_is_small_sorted_and_round_trips() {
        let baseline = Baseline::accepted(None, "smoke", &sample::side("now", "playbook", "a", 2, &[2]));
        let text = baseline.text();
        assert_eq!(Baseline::parse(&text).unwrap(), baseline);
        insta::assert_snapshot!(text);
        assert!(Baseline::parse("{").unwrap_err().contains("line 1"));
        let newer = text.replace("\"baseline\": 1", "\"baseline\": 9");
        assert!(Baseline::parse(&newer).unwrap_err().contains("its format is 9"));
    }

    #[test]
    fn counts_accumulate_per_yardstick_and_a_run_counts_once() {
        let counted = |baseline: &Baseline| (baseline.cases[0].runs, baseline.cases[0].passes, baseline.cases[0].is_admitted());
        let first = Baseline::accepted(None, "smoke", &sample::side("one", "playbook", "a", 10, &[3]));
        assert_eq!(counted(&first), (10, 9, false));
        let second = Baseline::accepted(Some(&first), "smoke", &sample::side("two", "playbook", "b", 10, &[]));
        assert_eq!(counted(&second), (20, 19, true));
        assert_eq!(counted(&Baseline::accepted(Some(&second), "smoke", &sample::side("two", "playbook", "b", 10, &[]))), (20, 19, true));
        let mut other = sample::side("three", "playbook", "c", 10, &[]);
        other.subjects.iter_mut().for_each(|outcome| outcome.yardstick = "other".into());
        assert_eq!(counted(&Baseline::accepted(Some(&second), "smoke", &other)), (10, 10, false));
    }
}
