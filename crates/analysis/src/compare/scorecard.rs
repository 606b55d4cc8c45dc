//! Summary of one side of a comparison: rates, scores, times and cost. Each value is computed over the trials that have such a value.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use serde::Serialize;

use super::metric::{MetricValue, counts, passed};
use super::side::{NOOP, ORACLE, Side};
use chaosrun_event::Verdict;
use chaosrun_stats::proportion::Proportion;
use chaosrun_stats::{Interval, differences};
use chaosrun_store::outcomes::TrialOutcome;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scorecard {
    pub name: String,
    pub variants: Vec<String>,
    pub runs: Vec<String>,
    /// Number of trials with a verdict other than invalid.
    pub trials: usize,
    /// Number of invalid trials. Rates do not include them.
    pub invalid: usize,
    pub unfinished: usize,
    /// Number of attempts that were replaced by a later attempt.
    pub superseded: usize,
    pub verdicts: IndexMap<Verdict, usize>,
    pub passed: Proportion,
    pub rate: Option<f64>,
    /// Wilson's confidence interval of the pass rate.
    pub interval: Option<Interval>,
    /// Pass rates of repeated trials. `None` if no trial was repeated on the same seed.
    pub repeats: Option<Repeats>,
    pub means: IndexMap<MetricValue, Mean>,
    pub uplift: Option<Uplift>,
    /// Reason why the uplift cannot be computed. `None` if there is an uplift.
    pub no_uplift: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    pub mean: f64,
    /// Number of trials over which the mean is computed.
    pub of: usize,
}

/// Probability that at least one of `k` trials of the same seed passes, and probability that all `k` pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Repeats {
    pub k: usize,
    /// Mean over all seeds of the probability that at least one of `k` trials passes (pass@k). Only seeds with `k` or more counted trials
    /// are included.
    pub any: f64,
    /// Mean over the same seeds of the probability that all `k` trials pass (pass^k).
    pub all: f64,
    pub seeds: usize,
}

/// Uplift: position of an agent between the `noop` control (0) and the `oracle` control (1), measured by the impact on clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Uplift {
    pub mean: f64,
    /// Number of trials over which the uplift is computed. Only seeds that both controls ran are included.
    pub of: usize,
}

impl Scorecard {
    #[must_use]
    pub fn of(side: &Side, confidence: f64) -> Self {
        let mut verdicts: IndexMap<Verdict, usize> = IndexMap::new();
        for verdict in side.subjects.iter().filter_map(|outcome| outcome.verdict) {
            *verdicts.entry(verdict).or_default() += 1;
        }
        verdicts.sort_keys();
        let proportion = Proportion::of(side.subjects.iter().filter(|outcome| counts(outcome)).map(passed));
        let mut means = IndexMap::new();
        for metric in MetricValue::ALL {
            let values: Vec<f64> = side.subjects.iter().filter_map(|outcome| metric.of(outcome)).collect();
            if let Some(mean) = differences::mean(&values) {
                means.insert(metric, Mean { mean, of: values.len() });
            }
        }
        let (uplift, no_uplift) = match uplift(side) {
            Ok(uplift) => (Some(uplift), None),
            Err(why) => (None, Some(why.to_owned())),
        };
        Self {
            name: side.name.clone(),
            variants: side.variants().into_iter().map(str::to_owned).collect(),
            runs: side.invocations.iter().map(|invocation| invocation.run.to_string()).collect(),
            trials: side.counted(),
            invalid: verdicts.get(&Verdict::Invalid).copied().unwrap_or(0),
            unfinished: side.unfinished.values().sum(),
            superseded: side.superseded.values().sum(),
            verdicts,
            passed: proportion,
            rate: proportion.rate(),
            interval: proportion.wilson(confidence),
            repeats: Repeats::of(&side.subjects),
            means,
            uplift,
            no_uplift,
        }
    }
}

impl Repeats {
    /// Computes the pass rates of repeated trials. Returns `None` if no trial was repeated.
    fn of(outcomes: &[TrialOutcome]) -> Option<Self> {
        let k = outcomes.iter().map(|outcome| outcome.repeat).max().filter(|most| *most > 1)?;
        let mut seeds: BTreeMap<(&str, &str, &str, &str, u64), Proportion> = BTreeMap::new();
        for outcome in outcomes.iter().filter(|outcome| counts(outcome)) {
            let TrialOutcome { scenario, variant, backend, cell, seed, .. } = outcome;
            let seen = seeds.entry((scenario, variant, backend, cell, *seed)).or_default();
            (seen.hits, seen.of) = (seen.hits + usize::from(passed(outcome)), seen.of + 1);
        }
        let of = |chance: &dyn Fn(&Proportion) -> Option<f64>| seeds.values().filter_map(chance).collect::<Vec<f64>>();
        let (any, all) = (of(&|seen| seen.any_of(k)), of(&|seen| seen.all_of(k)));
        Some(Self { k, any: differences::mean(&any)?, all: differences::mean(&all)?, seeds: any.len() })
    }
}

/// Computes the uplift over the trials whose seed both controls ran.
fn uplift(side: &Side) -> Result<Uplift, &'static str> {
    type Key<'a> = (&'a str, &'a str, &'a str, u64, usize);
    fn key(outcome: &TrialOutcome) -> Key<'_> {
        (&outcome.scenario, &outcome.backend, &outcome.cell, outcome.seed, outcome.repeat)
    }
    let impact = |outcome: &TrialOutcome| MetricValue::ImpactS.of(outcome);
    let of = |variant: &str| {
        side.bounds
            .iter()
            .filter(|outcome| outcome.variant == variant)
            .filter_map(|outcome| Some((key(outcome), impact(outcome)?)))
            .collect::<HashMap<_, _>>()
    };
    let (noop, oracle) = (of(NOOP), of(ORACLE));
    let (mut found, mut why) = (Vec::new(), "no trial has a workload, so its impact on users is unknown");
    for outcome in side.subjects.iter().filter(|outcome| ![NOOP, ORACLE].contains(&outcome.variant.as_str())) {
        let Some(agent) = impact(outcome) else { continue };
        match chaosrun_score::uplift::uplift(agent, noop.get(&key(outcome)).copied(), oracle.get(&key(outcome)).copied()) {
            Ok(uplift) => found.push(uplift),
            Err(reason) => why = reason,
        }
    }
    differences::mean(&found).map(|mean| Uplift { mean, of: found.len() }).ok_or(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    #[test]
    fn scorecard_counts_trials_that_are_in_no_rate() {
        let card = Scorecard::of(&sample::side("b", "b", "b", 20, &[1, 2, 5]), 0.95);
        assert_eq!((card.trials, card.invalid, card.passed.hits), (39, 1, 36));
        assert_eq!(card.means[&MetricValue::RepairS].of, 36);
        assert_eq!(card.repeats, None);
        // The impact is 1.3 s for a pass, 6 s for a failure, 8 s for the noop and 0.5 s for the oracle.
        let uplift = card.uplift.unwrap();
        assert_eq!(uplift.of, 39);
        assert!((uplift.mean - (36.0 * 6.7 + 3.0 * 2.0) / 7.5 / 39.0).abs() < 1e-9, "{uplift:?}");
    }

    #[test]
    fn repeats_of_a_seed_give_pass_at_k() {
        let mut outcomes = Vec::new();
        for (seed, verdicts) in [(1, [Verdict::Pass, Verdict::Pass]), (2, [Verdict::Pass, Verdict::Fail])] {
            for (place, verdict) in verdicts.into_iter().enumerate() {
                outcomes.push(TrialOutcome { repeat: place + 1, ..sample::outcome("node_kill", "a", seed, Some(verdict)) });
            }
        }
        assert_eq!(Repeats::of(&outcomes), Some(Repeats { k: 2, any: 1.0, all: 0.5, seeds: 2 }));
    }
}
