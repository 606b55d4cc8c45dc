//! Compact form of a plan that a run stores in the record. There is one entry per case, with ranges of seeds. Readers of the record can
//! therefore find trials that never started.

use std::collections::{HashMap, HashSet};

use super::outcome::{TrialOutcome, cell};
use crate::TrialPlan;
use chaosrun_event::{DeclaredPlan, PlannedCase, TrialRole};
use chaosrun_scenario::digest;

/// Key of a trial in the record: scenario, variant, backend, cell, seed, repeat and role.
pub type TrialKey = (String, String, String, String, u64, usize, TrialRole);

#[must_use]
pub fn declared<'a>(trials: impl Iterator<Item = &'a TrialPlan>, share: Option<(u32, u32)>) -> DeclaredPlan {
    let mut places = HashMap::new();
    let mut found: Vec<(PlannedCase, Vec<u64>)> = Vec::new();
    for trial in trials {
        let scenario = &trial.scenario;
        let key = (&*scenario.name, &*scenario.variant.name, scenario.backend.as_str(), trial.role, cell(&trial.cell), trial.repeat);
        let place = *places.entry(key).or_insert_with(|| {
            let case = PlannedCase {
                scenario: scenario.name.clone(),
                variant: scenario.variant.name.clone(),
                backend: scenario.backend.as_str().to_owned(),
                role: trial.role,
                cell: trial.cell.clone(),
                repeat: trial.repeat,
                seeds: Vec::new(),
            };
            found.push((case, Vec::new()));
            found.len() - 1
        });
        found[place].1.push(trial.seed);
    }
    let cases: Vec<PlannedCase> = found.into_iter().map(|(case, seeds)| PlannedCase { seeds: ranges(seeds), ..case }).collect();
    let digest = digest::digest(&serde_json::to_value(&cases).unwrap_or_default());
    DeclaredPlan { digest, share, cases }
}

/// Converts seeds to inclusive ranges, sorted and without duplicates.
fn ranges(mut seeds: Vec<u64>) -> Vec<(u64, u64)> {
    seeds.sort_unstable();
    let mut found: Vec<(u64, u64)> = Vec::new();
    for seed in seeds {
        match found.last_mut() {
            Some((_, last)) if seed <= last.saturating_add(1) => *last = seed,
            _ => found.push((seed, seed)),
        }
    }
    found
}

/// Returns the keys of all trials that the declared plan contains.
pub fn trials(plan: &DeclaredPlan) -> impl Iterator<Item = TrialKey> {
    plan.cases.iter().flat_map(|case| {
        let cell = cell(&case.cell);
        let seeds = case.seeds.iter().flat_map(|(first, last)| *first..=*last);
        seeds.map(move |seed| {
            let PlannedCase { scenario, variant, backend, repeat, role, .. } = case;
            (scenario.clone(), variant.clone(), backend.clone(), cell.clone(), seed, *repeat, *role)
        })
    })
}

/// Returns the keys of all recorded trials that have a verdict.
#[must_use]
pub fn ended<'a>(outcomes: impl Iterator<Item = &'a TrialOutcome>) -> HashSet<TrialKey> {
    outcomes.filter(|one| one.verdict.is_some()).map(recorded).collect()
}

/// Returns the key of a recorded trial.
#[must_use]
pub fn recorded(one: &TrialOutcome) -> TrialKey {
    (one.scenario.clone(), one.variant.clone(), one.backend.clone(), one.cell.clone(), one.seed, one.repeat, one.role)
}

/// Returns the key of a planned trial.
#[must_use]
pub fn planned(trial: &TrialPlan) -> TrialKey {
    let scenario = &trial.scenario;
    let (name, variant) = (scenario.name.clone(), scenario.variant.name.clone());
    (name, variant, scenario.backend.as_str().to_owned(), cell(&trial.cell), trial.seed, trial.repeat, trial.role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_scenario::{Overrides, load};

    #[test]
    fn declared_plan_is_short_and_round_trips() {
        let file = concat!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "/scenarios/empty.yaml");
        let variants = vec!["noop".to_owned(), "oracle".to_owned()];
        let overrides = Overrides { variants, seeds: Some(vec![7, 1, 2, 3, 9]), repeat: Some(2), ..Overrides::default() };
        let plan = crate::plan(&load(file.as_ref(), &overrides).unwrap()).trials;
        let told = declared(plan.iter().map(AsRef::as_ref), Some((1, 4)));
        assert_eq!(told.cases.len(), 4, "two variants, two repeats");
        assert!(told.cases.iter().all(|case| case.seeds == [(1, 3), (7, 7), (9, 9)]), "{told:?}");
        let all: HashSet<TrialKey> = trials(&told).collect();
        assert_eq!(all.len(), plan.len());
        assert!(plan.iter().all(|trial| all.contains(&planned(trial))));
        let first = &plan[0];
        let variant = first.scenario.variant.name.clone();
        assert_eq!(planned(first), ("empty".into(), variant, "local".into(), "{}".into(), first.seed, first.repeat, first.role));
        let fewer = declared(plan[1..].iter().map(AsRef::as_ref), None);
        assert_ne!(fewer.digest, told.digest);
    }
}
