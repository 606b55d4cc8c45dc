//! Statistical power of the comparisons of a plan, computed before the run. The functions are pure.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::TrialSchedule;
use super::outcome::Past;
use chaosrun_event::{TrialRole, Verdict};
use chaosrun_scenario::model::{Compare, Metric};
use chaosrun_stats::{count, power};

/// Significance level: the accepted probability that a conclusion of a comparison is wrong.
pub const ALPHA: f64 = 0.05;
/// Required power: the probability that a comparison shows a difference that exists.
pub const POWER: f64 = 0.8;
/// Pass rate that is assumed for an agent with fewer than [`ENOUGH`] recorded trials.
const ASSUMED: f64 = 0.95;
/// Minimum number of recorded trials for the estimate of a pass rate.
const ENOUGH: usize = 20;
/// Minimum number of pairs that can show a significant difference. With 5 pairs, even 5 wins of one variant are not significant, because `2
/// / 2^5 > 0.05`.
pub const FEWEST: usize = 6;
/// Maximum number of pairs that the computation uses. With more pairs, the computation takes too long. The actual power is at least as high
/// as the computed power.
pub const MOST_PAIRS: usize = 1_000;

/// Statistical power of a plan's comparisons of pass rates.
#[derive(Debug, Clone, Serialize)]
pub struct PowerEstimate {
    /// Number of pairs of trials that are compared. Each combination of scenario, cell, backend, seed and repeat gives one pair.
    pub pairs: usize,
    /// Names of the variants that the plan compares. A single variant is compared with another run of the same trials or with a baseline.
    pub variants: Vec<String>,
    /// Pass rate from 0 to 1 on which the computation is based: the rate of the reference variant, or of the only variant.
    pub rate: f64,
    /// Number of recorded trials from which `rate` is estimated. `None` if `rate` is assumed.
    pub rate_of: Option<usize>,
    pub margin: f64,
    /// Probability that a comparison of two equally good agents shows non-inferiority: the subject is not worse than the reference by the
    /// margin or more.
    pub non_inferior: f64,
    /// Number of pairs that is necessary to show non-inferiority with probability [`POWER`]. `None` if no computed number of pairs
    /// suffices.
    pub needed: Option<usize>,
    /// Smallest decrease of the pass rate that the pairs show with probability [`POWER`]. `None` if the pairs cannot show any decrease.
    pub smallest_drop: Option<f64>,
}

/// Computes the power of a plan. Returns `None` if the plan has no judged trials.
#[must_use]
pub fn strength(plan: &TrialSchedule, compare: Option<&Compare>, past: &[Past]) -> Option<PowerEstimate> {
    let judged = || plan.trials.iter().filter(|trial| trial.role == TrialRole::Subject);
    let mut variants: Vec<String> = Vec::new();
    let mut groups: HashMap<(&str, u64, usize, &str), usize> = HashMap::new();
    for trial in judged() {
        let scenario = &trial.scenario;
        if !variants.contains(&scenario.variant.name) {
            variants.push(scenario.variant.name.clone());
        }
        *groups.entry((&trial.yardstick, trial.seed, trial.repeat, scenario.backend.as_str())).or_default() += 1;
    }
    if groups.is_empty() {
        return None;
    }
    // If variants are compared with each other, a seed with one variant is no pair.
    let fewest = variants.len().min(2);
    let pairs = groups.values().filter(|judged| **judged >= fewest).count();
    // Uses the rate of the reference variant, or of the only variant.
    let who = compare.map(|compare| compare.reference.as_str()).or(if variants.len() == 1 { Some(variants[0].as_str()) } else { None });
    let subjects: HashSet<&str> =
        plan.trials.iter().filter(|trial| Some(trial.scenario.variant.name.as_str()) == who).map(|trial| trial.subject.as_str()).collect();
    let scenarios: HashSet<&str> = judged().map(|trial| trial.scenario.name.as_str()).collect();
    let known: Vec<&Past> =
        past.iter().filter(|one| subjects.contains(one.subject.as_str()) && scenarios.contains(one.scenario.as_str())).collect();
    let passed = known.iter().filter(|one| one.verdict == Verdict::Pass).count();
    let (rate, rate_of) = if known.len() >= ENOUGH {
        // Adds half a pass and half a failure (Jeffreys), so that 20 passes of 20 do not count as certainty.
        ((count(passed) + 0.5) / (count(known.len()) + 1.0), Some(known.len()))
    } else {
        (ASSUMED, None)
    };
    let margin = compare.filter(|compare| compare.metric == Metric::Pass).map_or(Metric::Pass.default_margin(), |compare| compare.margin);
    let n = pairs.min(MOST_PAIRS);
    Some(PowerEstimate {
        pairs,
        variants,
        rate,
        rate_of,
        margin,
        non_inferior: power::non_inferiority(n, rate, margin, ALPHA),
        needed: power::pairs_for_non_inferiority(rate, margin, ALPHA, POWER),
        smallest_drop: power::smallest_drop(n, rate, ALPHA, POWER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{past, planned};

    #[test]
    fn pairs_are_counted_and_power_matches_the_statistics() {
        let campaign = planned("embedded:scenarios/campaigns/five.yaml", &[]);
        let plan = crate::campaign(&campaign);
        let compare = campaign.campaign.compare.as_ref();
        let found = strength(&plan, compare, &[]).unwrap();
        assert_eq!((found.pairs, found.variants.len(), found.rate_of), (50, 4, None));
        assert!((found.non_inferior - power::non_inferiority(50, 0.95, 0.1, 0.05)).abs() < 1e-12);
        assert!(found.needed.is_some_and(|needed| (60..120).contains(&needed)), "{found:?}");
        // The oracle passed 18 of 20. The results of other variants are not used.
        let mut known: Vec<Past> = plan.trials.iter().map(|trial| past(trial, 1_000_000)).collect();
        let oracle = plan.trials.iter().find(|trial| trial.scenario.variant.name == "oracle").unwrap();
        known.retain(|one| one.subject == oracle.subject);
        known.truncate(20);
        known[..2].iter_mut().for_each(|one| one.verdict = Verdict::Fail);
        let found = strength(&plan, compare, &known).unwrap();
        assert_eq!(found.rate_of, Some(20));
        assert!((found.rate - 18.5 / 21.0).abs() < 1e-12, "{found:?}");
        assert_eq!(strength(&plan, compare, &known[1..]).unwrap().rate_of, None);
        assert_eq!(strength(&plan, None, &known).unwrap().rate_of, None, "of several it is not said of whom");
        // The last three seeds have only one variant, so they are no pairs.
        let alone = |trial: &&std::sync::Arc<super::super::TrialPlan>| trial.seed <= 7 || trial.scenario.variant.name == "noop";
        let some = TrialSchedule { trials: plan.trials.iter().filter(alone).cloned().collect() };
        assert_eq!(strength(&some, compare, &[]).unwrap().pairs, 35);
    }
}
