//! A plan as a run tells it: case by case, with ranges of seeds, so that a record knows what was to be run and never began.

use std::collections::{HashMap, HashSet};

use super::{TrialPlan, digest};
use crate::event::{DeclaredPlan, PlannedCase, TrialRole};
use crate::store::outcomes::{Outcome, cell};

/// Scenario, variant, backend, cell, seed, repeat, role: what makes two trials of a record the same one.
pub type Trial = (String, String, String, String, u64, usize, TrialRole);

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

/// What is in none but once, from first to last.
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

/// All trials of it.
pub fn trials(plan: &DeclaredPlan) -> impl Iterator<Item = Trial> {
    plan.cases.iter().flat_map(|case| {
        let cell = cell(&case.cell);
        let seeds = case.seeds.iter().flat_map(|(first, last)| *first..=*last);
        seeds.map(move |seed| {
            let PlannedCase { scenario, variant, backend, repeat, role, .. } = case;
            (scenario.clone(), variant.clone(), backend.clone(), cell.clone(), seed, *repeat, *role)
        })
    })
}

/// Those that have an end.
#[must_use]
pub fn ended<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> HashSet<Trial> {
    outcomes.filter(|one| one.verdict.is_some()).map(recorded).collect()
}

/// One that was recorded.
#[must_use]
pub fn recorded(one: &Outcome) -> Trial {
    (one.scenario.clone(), one.variant.clone(), one.backend.clone(), one.cell.clone(), one.seed, one.repeat, one.role)
}

/// One of a plan.
#[must_use]
pub fn planned(trial: &TrialPlan) -> Trial {
    let scenario = &trial.scenario;
    let (name, variant) = (scenario.name.clone(), scenario.variant.name.clone());
    (name, variant, scenario.backend.as_str().to_owned(), cell(&trial.cell), trial.seed, trial.repeat, trial.role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, load};

    #[test]
    fn a_plan_is_told_in_few_words_and_is_the_same_again() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/empty.yaml");
        let variants = vec!["noop".to_owned(), "oracle".to_owned()];
        let overrides = Overrides { variants, seeds: Some(vec![7, 1, 2, 3, 9]), repeat: Some(2), ..Overrides::default() };
        let plan = crate::plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials;
        let told = declared(plan.iter().map(AsRef::as_ref), Some((1, 4)));
        assert_eq!(told.cases.len(), 4, "two variants, two repeats");
        assert!(told.cases.iter().all(|case| case.seeds == [(1, 3), (7, 7), (9, 9)]), "{told:?}");
        let all: HashSet<Trial> = trials(&told).collect();
        assert_eq!(all.len(), plan.len());
        assert!(plan.iter().all(|trial| all.contains(&planned(trial))));
        let first = &plan[0];
        let variant = first.scenario.variant.name.clone();
        assert_eq!(planned(first), ("empty".into(), variant, "local".into(), "{}".into(), first.seed, first.repeat, first.role));
        let fewer = declared(plan[1..].iter().map(AsRef::as_ref), None);
        assert_ne!(fewer.digest, told.digest);
    }
}
