//! A baseline: what was accepted, in a small JSON file without dates, made to be kept in git and read in a diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compare::metric::{counts, passed, rounded};
use crate::compare::side::Side;
use crate::event::{TrialRole, Verdict};
use crate::store::outcomes::Outcome;

/// Of the file.
const FORMAT: u32 = 1;
/// So many runs it takes before a case may block by failing altogether, 19 of 20 of them passed.
const ADMITTED: usize = 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Version of the file's format.
    pub baseline: u32,
    /// Of the campaign or scenario.
    pub name: String,
    /// Version of what decides verdicts.
    pub semantics: u32,
    /// The runs that were accepted last: accepted again they count once.
    pub runs: Vec<String>,
    /// Sorted.
    pub cases: Vec<Case>,
}

/// A scenario with a variant, on a backend, in a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub scenario: String,
    pub variant: String,
    pub backend: String,
    pub cell: Value,
    pub file: String,
    pub yardstick: String,
    pub subject: String,
    pub scorer: u32,
    /// Trials that counted, over all that was accepted by this yardstick.
    pub runs: usize,
    pub passes: usize,
    /// The last that were accepted, sorted.
    pub trials: Vec<Kept>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub seed: u64,
    pub repeat: usize,
    pub verdict: Verdict,
    pub score: Option<f64>,
}

/// Scenario, variant, backend, cell.
pub type Key = (String, String, String, String);

impl Case {
    #[must_use]
    pub fn key(&self) -> Key {
        (self.scenario.clone(), self.variant.clone(), self.backend.clone(), self.cell.to_string())
    }

    /// Whether it is known to be steady enough to block by failing altogether.
    #[must_use]
    pub const fn is_admitted(&self) -> bool {
        self.runs >= ADMITTED && self.passes * 20 >= self.runs * 19
    }
}

#[must_use]
pub fn key(outcome: &Outcome) -> Key {
    (outcome.scenario.clone(), outcome.variant.clone(), outcome.backend.clone(), outcome.cell.clone())
}

impl Baseline {
    /// # Errors
    /// It is not such a file, and where that shows.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if found.baseline != FORMAT {
            return Err(format!("its format is {}, this chaosrun knows {FORMAT}", found.baseline));
        }
        Ok(found)
    }

    /// What was run, accepted. Counts go on where the yardstick has stayed.
    #[must_use]
    pub fn accepted(previous: Option<&Self>, name: &str, side: &Side) -> Self {
        let mut by_case: BTreeMap<Key, Vec<&Outcome>> = BTreeMap::new();
        for outcome in side.subjects.iter().filter(|outcome| counts(outcome)) {
            by_case.entry(key(outcome)).or_default().push(outcome);
        }
        // The runs in which they were executed, which a resume is not: what was counted once is not counted again.
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

    /// As a side of a comparison.
    #[must_use]
    pub fn side(&self) -> Side {
        let outcomes = self.cases.iter().flat_map(|case| case.trials.iter().map(|kept| outcome(case, kept)));
        let side = Side::new(format!("baseline {}", self.name), outcomes.collect(), Vec::new());
        Side { semantics: Some(self.semantics), renew: Some("chaosrun gate CAMPAIGN --baseline FILE --accept".into()), ..side }
    }

    /// JSON with a line a trial, so that a diff shows which have changed.
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
    /// Whatever is written as JSON in one line.
    pub(super) trait Json {
        fn json(&self) -> String;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> String {
            serde_json::to_string(self).unwrap_or_default()
        }
    }
}

/// None of no trials.
/// Runs that a baseline remembers to have counted.
const REMEMBERED: usize = 100;

fn case(before: Option<&Case>, outcomes: &[&Outcome], again: bool) -> Option<Case> {
    let first = outcomes.first()?;
    let passes = outcomes.iter().filter(|outcome| passed(outcome)).count();
    // Another yardstick is another test: what was counted by the old one says nothing of it.
    let (runs, passes) = match before.filter(|before| before.yardstick == first.yardstick) {
        Some(before) if again => (before.runs, before.passes),
        Some(before) => (before.runs + outcomes.len(), before.passes + passes),
        None => (outcomes.len(), passes),
    };
    let mut trials: Vec<Kept> = outcomes
        .iter()
        .filter_map(|outcome| {
            // As `Metric::Score` reads them on both sides: what is rounded on one side only would be a difference.
            let score = outcome.score.map(rounded);
            Some(Kept { seed: outcome.seed, repeat: outcome.repeat, verdict: outcome.verdict?, score })
        })
        .collect();
    trials.sort_by_key(|kept| (kept.seed, kept.repeat));
    Some(Case {
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

fn outcome(case: &Case, kept: &Kept) -> Outcome {
    Outcome {
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
        hurt_us: None,
        tokens: None,
        usd: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    #[test]
    fn a_baseline_is_small_sorted_and_read_as_it_was_written() {
        let baseline = Baseline::accepted(None, "smoke", &sample::side("now", "playbook", "a", 2, &[2]));
        let text = baseline.text();
        assert_eq!(Baseline::parse(&text).unwrap(), baseline);
        insta::assert_snapshot!(text);
        assert!(Baseline::parse("{").unwrap_err().contains("line 1"));
        let newer = text.replace("\"baseline\": 1", "\"baseline\": 9");
        assert!(Baseline::parse(&newer).unwrap_err().contains("its format is 9"));
    }

    #[test]
    fn counts_go_on_over_time_by_one_yardstick_and_a_run_counts_once() {
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
