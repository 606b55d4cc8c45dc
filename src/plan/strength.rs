//! What comparisons of so many pairs can show, known before they are paid for. Pure.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::Plan;
use crate::event::{TrialRole, Verdict};
use crate::scenario::model::{Compare, Metric};
use crate::stats::{count, power};
use crate::store::history::Past;

/// Error rate of each statement.
pub const ALPHA: f64 = 0.05;
/// How often it shall be shown.
pub const POWER: f64 = 0.8;
/// Of an agent of which little is known.
const ASSUMED: f64 = 0.95;
/// Fewer trials than this say little of a rate.
const ENOUGH: usize = 20;
/// With fewer pairs not even a winner of all of them is shown to be one: `2 / 2^5 > 0.05`.
pub const FEWEST: usize = 6;
/// More pairs than this are counted as so many: what they show is more, and nobody waits for the sum.
pub const MOST_PAIRS: usize = 1_000;

/// What the pairs of a plan show of agents that pass or not.
#[derive(Debug, Clone, Serialize)]
pub struct Strength {
    /// Scenario, cell, backend, seed and repeat: on each the variants are compared.
    pub pairs: usize,
    /// Judged variants; with one alone, the other side is a run of the same trials or a baseline.
    pub variants: Vec<String>,
    /// How often an agent passes.
    pub rate: f64,
    /// Of so many recorded trials; none = assumed.
    pub rate_of: Option<usize>,
    pub margin: f64,
    /// How often two equal agents are shown not to differ by the margin.
    pub non_inferior: f64,
    /// Pairs that show it with [`POWER`].
    pub needed: Option<usize>,
    /// The smallest drop of the rate that is shown with [`POWER`].
    pub smallest_drop: Option<f64>,
}

/// None when nothing of the plan is judged.
#[must_use]
pub fn strength(plan: &Plan, compare: Option<&Compare>, past: &[Past]) -> Option<Strength> {
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
    // Where variants are compared with each other, one alone is no pair.
    let fewest = variants.len().min(2);
    let pairs = groups.values().filter(|judged| **judged >= fewest).count();
    // Of whom the rate is: of whom the others are compared with, or of the only one.
    let who = compare.map(|compare| compare.reference.as_str()).or(if variants.len() == 1 { Some(variants[0].as_str()) } else { None });
    let subjects: HashSet<&str> =
        plan.trials.iter().filter(|trial| Some(trial.scenario.variant.name.as_str()) == who).map(|trial| trial.subject.as_str()).collect();
    let scenarios: HashSet<&str> = judged().map(|trial| trial.scenario.name.as_str()).collect();
    let known: Vec<&Past> =
        past.iter().filter(|one| subjects.contains(one.subject.as_str()) && scenarios.contains(one.scenario.as_str())).collect();
    let passed = known.iter().filter(|one| one.verdict == Verdict::Pass).count();
    let (rate, rate_of) = if known.len() >= ENOUGH {
        // As if half a trial more had passed, and half a one not: twenty passes of twenty are no certainty.
        ((count(passed) + 0.5) / (count(known.len()) + 1.0), Some(known.len()))
    } else {
        (ASSUMED, None)
    };
    let margin = compare.filter(|compare| compare.metric == Metric::Pass).map_or(Metric::Pass.default_margin(), |compare| compare.margin);
    let n = pairs.min(MOST_PAIRS);
    Some(Strength {
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
    use crate::plan::forecast::tests::{past, planned};

    #[test]
    fn pairs_are_counted_and_their_strength_is_that_of_the_statistics() {
        let campaign = planned("embedded:scenarios/campaigns/five.yaml", &[]);
        let plan = crate::plan::campaign(&campaign);
        let compare = campaign.campaign.compare.as_ref();
        let found = strength(&plan, compare, &[]).unwrap();
        assert_eq!((found.pairs, found.variants.len(), found.rate_of), (50, 4, None));
        assert!((found.non_inferior - power::non_inferiority(50, 0.95, 0.1, 0.05)).abs() < 1e-12);
        assert!(found.needed.is_some_and(|needed| (60..120).contains(&needed)), "{found:?}");
        // 18 of 20 of the oracle passed, whoever else did; of fewer nobody asks.
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
        // Of the last three seeds only one variant: they are no pairs.
        let alone = |trial: &&std::sync::Arc<super::super::TrialPlan>| trial.seed <= 7 || trial.scenario.variant.name == "noop";
        let some = Plan { trials: plan.trials.iter().filter(alone).cloned().collect() };
        assert_eq!(strength(&some, compare, &[]).unwrap().pairs, 35);
    }
}
