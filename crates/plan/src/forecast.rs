//! Forecast of the duration of a plan, and of the tokens and dollars that its models cost. The estimates are based on similar recorded
//! trials. The functions are pure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::outcome::Past;
use super::{TrialPlan, TrialSchedule};
use chaosrun_event::TrialRole;
use chaosrun_scenario::model::{Provider, Scenario};
use chaosrun_scenario::timeline;

/// Forecast of a plan: its cells, its duration and the cost of its models.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    pub cells: Vec<CellForecast>,
    pub trials: usize,
    pub jobs: usize,
    pub wall: Wall,
    /// Cost of each variant that uses models.
    pub models: Vec<ModelCost>,
}

/// Trials of one scenario on one backend with the same matrix values, and the sum of their durations.
#[derive(Debug, Clone, Serialize)]
pub struct CellForecast {
    pub scenario: String,
    pub backend: &'static str,
    pub goal: &'static str,
    pub cell: IndexMap<String, Value>,
    pub yardstick: String,
    pub variants: Vec<String>,
    pub controls: Vec<String>,
    pub seeds: usize,
    pub repeats: usize,
    pub trials: usize,
    /// Sum of the expected durations of all trials of this cell, in microseconds.
    pub wall_us: u64,
}

/// Expected duration of the plan, with the number of trials for each basis of the estimate.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Wall {
    /// Expected duration of the plan in microseconds, if `jobs` trials run in parallel.
    pub expected_us: u64,
    /// Number of trials estimated by the median duration of recorded trials of the same variant, for which all other files were equal too.
    pub by_same: usize,
    /// Number of trials estimated by the median duration of recorded trials of the same scenario and backend. Trials of the same variant
    /// are used if any exist. Otherwise, trials of all variants are used.
    pub by_scenario: usize,
    /// Number of trials without comparable recorded trials. Their estimate is the longest duration that the timing of the scenario allows.
    pub by_timing: usize,
}

/// Expected cost of the models of one variant.
#[derive(Debug, Clone, Serialize)]
pub struct ModelCost {
    pub variant: String,
    pub trials: usize,
    /// Number of recorded trials of the same variant, on which the estimate is based. If it is 0, only the limits are known.
    pub history: usize,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
    /// Maximum number of tokens that the limits of the variant's trials allow. `None` means that there is no limit.
    pub most_tokens: Option<u64>,
    pub most_usd: Option<f64>,
}

/// Basis of the estimate of a trial's duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    Same,
    Scenario,
    Timing,
}

/// Sorted durations of recorded trials in microseconds. There are three groupings: by digests of files and variant, by scenario and
/// backend, and by scenario, backend and variant.
struct Walls<'p> {
    same: HashMap<(&'p str, &'p str), Vec<u64>>,
    scenario: HashMap<(&'p str, &'p str), Vec<u64>>,
    scenario_subject: HashMap<(&'p str, &'p str, &'p str), Vec<u64>>,
}

impl<'p> Walls<'p> {
    fn of(past: &'p [Past]) -> Self {
        let mut walls = Self { same: HashMap::new(), scenario: HashMap::new(), scenario_subject: HashMap::new() };
        for one in past {
            walls.same.entry((&one.yardstick, &one.subject)).or_default().push(one.wall_us);
            walls.scenario.entry((&one.scenario, &one.backend)).or_default().push(one.wall_us);
            walls.scenario_subject.entry((&one.scenario, &one.backend, &one.subject)).or_default().push(one.wall_us);
        }
        let all = walls.same.values_mut().chain(walls.scenario.values_mut()).chain(walls.scenario_subject.values_mut());
        all.for_each(|walls| walls.sort_unstable());
        walls
    }

    fn expected(&self, trial: &TrialPlan) -> (u64, Basis) {
        let (name, backend) = (trial.scenario.name.as_str(), trial.scenario.backend.as_str());
        if let Some(walls) = self.same.get(&(trial.yardstick.as_str(), trial.subject.as_str())) {
            return (median(walls), Basis::Same);
        }
        let alike = self.scenario_subject.get(&(name, backend, trial.subject.as_str())).or_else(|| self.scenario.get(&(name, backend)));
        alike.map_or_else(|| (micros(longest(&trial.scenario)), Basis::Timing), |walls| (median(walls), Basis::Scenario))
    }
}

/// Computes the forecast of a plan if `jobs` trials run in parallel. `past` contains the recorded trials.
#[must_use]
pub fn forecast(plan: &TrialSchedule, past: &[Past], jobs: usize) -> Forecast {
    let walls = Walls::of(past);
    let mut cells: IndexMap<(&str, &str, String), CellForecast> = IndexMap::new();
    let mut wall = Wall::default();
    let mut each = Vec::with_capacity(plan.trials.len());
    let mut seeds: HashSet<(usize, u64)> = HashSet::new();
    for trial in &plan.trials {
        let (took, basis) = walls.expected(trial);
        each.push(took);
        *match basis {
            Basis::Same => &mut wall.by_same,
            Basis::Scenario => &mut wall.by_scenario,
            Basis::Timing => &mut wall.by_timing,
        } += 1;
        let scenario = &trial.scenario;
        let key = (scenario.name.as_str(), scenario.backend.as_str(), trial.yardstick.clone());
        let entry = cells.entry(key);
        let place = entry.index();
        let cell = entry.or_insert_with(|| CellForecast {
            scenario: scenario.name.clone(),
            backend: scenario.backend.as_str(),
            goal: scenario.goal.as_str(),
            cell: trial.cell.clone(),
            yardstick: trial.yardstick.clone(),
            variants: Vec::new(),
            controls: Vec::new(),
            seeds: 0,
            repeats: 0,
            trials: 0,
            wall_us: 0,
        });
        let names = if trial.role == TrialRole::Subject { &mut cell.variants } else { &mut cell.controls };
        if !names.contains(&scenario.variant.name) {
            names.push(scenario.variant.name.clone());
        }
        cell.repeats = cell.repeats.max(trial.repeat);
        cell.trials += 1;
        cell.seeds += usize::from(seeds.insert((place, trial.seed)));
        cell.wall_us = cell.wall_us.saturating_add(took);
    }
    wall.expected_us = at_once(&each, jobs);
    Forecast { cells: cells.into_values().collect(), trials: plan.trials.len(), jobs, wall, models: models(plan, past) }
}

/// Returns the time at which the last trial ends. `each` contains the durations of the trials in their order. Each trial starts as soon as
/// one of the `jobs` slots is free.
fn at_once(each: &[u64], jobs: usize) -> u64 {
    let mut slots: BinaryHeap<Reverse<u64>> = vec![Reverse(0); jobs.max(1)].into();
    let mut last = 0;
    for took in each {
        let Reverse(free) = slots.pop().unwrap_or(Reverse(0));
        let end = free.saturating_add(*took);
        last = last.max(end);
        slots.push(Reverse(end));
    }
    last
}

/// Returns the longest duration of a trial that the timing of the scenario allows. The start of the cluster is excluded, because its
/// duration is unknown.
fn longest(scenario: &Scenario) -> Duration {
    let timing = &scenario.timing;
    let page = scenario.page.as_ref().map(|page| page.at);
    let begins = scenario.chaos.iter().map(|chaos| chaos.when.latest()).min().into_iter().chain(page).min().unwrap_or_default();
    let felt = if scenario.chaos.is_empty() { Duration::ZERO } else { timing.detect_within };
    let works = timing.repair_within.max(timeline::over(&scenario.chaos).saturating_sub(begins));
    timing.steady_for + begins + felt + works + timing.stable_for
}

fn models(plan: &TrialSchedule, past: &[Past]) -> Vec<ModelCost> {
    let mut costs: IndexMap<(&str, &str), Vec<&TrialPlan>> = IndexMap::new();
    for trial in plan.trials.iter().filter(|trial| asks_models(&trial.scenario.variant.provider)) {
        costs.entry((&trial.scenario.variant.name, &trial.subject)).or_default().push(trial);
    }
    let cost = |((variant, subject), trials): ((&str, &str), Vec<&TrialPlan>)| {
        let history: Vec<&Past> = past.iter().filter(|one| one.subject == subject).collect();
        let mut cost = ModelCost {
            variant: variant.to_owned(),
            trials: trials.len(),
            history: history.len(),
            tokens: None,
            usd: None,
            most_tokens: trials.iter().map(|trial| trial.scenario.limits.tokens).sum(),
            most_usd: trials.iter().map(|trial| trial.scenario.limits.usd).sum(),
        };
        for trial in trials.iter().filter(|_| !history.is_empty()) {
            let own: Vec<&Past> = history.iter().copied().filter(|one| one.scenario == trial.scenario.name).collect();
            let (tokens, usd) = mean(if own.is_empty() { &history } else { &own });
            cost.tokens = Some(cost.tokens.unwrap_or_default() + tokens);
            cost.usd = Some(cost.usd.unwrap_or_default() + usd);
        }
        cost
    };
    costs.into_iter().map(cost).collect()
}

/// Returns true if the provider sends requests to models that cost money. Cassettes (recorded answers) cost nothing.
fn asks_models(provider: &Provider) -> bool {
    match provider {
        Provider::Model(model) => model.cassettes.is_none(),
        Provider::Command(program) => !program.models.is_empty(),
        Provider::Scripted { .. } | Provider::Noop | Provider::RestartAll | Provider::Oracle => false,
    }
}

/// Returns the mean number of tokens and the mean cost in dollars of a trial. The mean is used instead of the median, because the total
/// cost is a sum.
fn mean(past: &[&Past]) -> (u64, f64) {
    let count = past.len().max(1);
    let tokens: u64 = past.iter().filter_map(|one| one.tokens).sum();
    let usd: f64 = past.iter().filter_map(|one| one.usd).sum();
    (tokens / count as u64, usd / chaosrun_stats::count(count))
}

fn median(sorted: &[u64]) -> u64 {
    let middle = sorted.len() / 2;
    match sorted {
        [] => 0,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => u64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{past, planned};

    #[test]
    fn duration_comes_from_the_nearest_history() {
        let plan = crate::campaign(&planned("embedded:scenarios/campaigns/smoke.yaml", &["noop", "oracle"]));
        let (first, other) = (&plan.trials[0], &plan.trials[1]);
        assert_eq!(plan.trials.len(), 12);
        let second = 1_000_000;
        let unknown = forecast(&plan, &[], 1).wall;
        assert_eq!((unknown.by_same, unknown.by_scenario, unknown.by_timing), (0, 0, 12));
        // node_kill: 1 s steady, 0.5 s until the fault, 5 s to detect, 8 s to repair, 2 s stable. false_alarm: 1 s steady, 1 s until the
        // page, 8 s to repair, 2 s stable.
        let alarm = longest(&plan.trials[2].scenario).as_secs_f64();
        assert!((longest(&first.scenario).as_secs_f64() - 16.5).abs() < 1e-9 && (10.0..14.0).contains(&alarm), "{alarm}");
        let known = [past(first, 9 * second), past(first, 3 * second), past(first, 4 * second)];
        let wall = forecast(&plan, &known, 1).wall;
        assert_eq!((wall.by_same, wall.by_scenario, wall.by_timing), (3, 3, 6), "{wall:?}");
        let changed = Past { yardstick: "of before".into(), ..past(other, 7 * second) };
        let mut known = known.to_vec();
        known.push(changed);
        let cell = &forecast(&plan, &known, 1).cells[0];
        assert_eq!((cell.trials, cell.seeds, cell.wall_us), (6, 3, 3 * (4 + 7) * second), "the median, and that of the same subject");
    }

    #[test]
    fn parallel_trials_share_the_time() {
        assert_eq!([at_once(&[4, 3, 2, 1], 1), at_once(&[4, 3, 2, 1], 2), at_once(&[1, 1, 9], 8), at_once(&[], 2)], [10, 5, 9, 0]);
    }

    #[test]
    fn models_cost_their_mean_history_and_at_most_their_limits() {
        let plan = crate::campaign(&planned("embedded:scenarios/campaigns/smoke.yaml", &["noop", "kitchen"]));
        let unknown = forecast(&plan, &[], 1).models;
        assert_eq!(unknown.len(), 1, "who asks no model costs nothing");
        assert_eq!((unknown[0].trials, unknown[0].tokens, unknown[0].usd), (6, None, None));
        let kitchen: Vec<&TrialPlan> =
            plan.trials.iter().filter(|trial| trial.scenario.variant.name == "kitchen").map(|trial| &**trial).collect();
        let of = |trial: &TrialPlan, tokens, usd| Past { tokens: Some(tokens), usd: Some(usd), ..past(trial, 1) };
        let known = [of(kitchen[0], 1_000, 0.1), of(kitchen[0], 3_000, 0.3)];
        let cost = &forecast(&plan, &known, 1).models[0];
        assert_eq!((cost.history, cost.tokens), (2, Some(12_000)));
        assert!(cost.usd.is_some_and(|usd| (usd - 1.2).abs() < 1e-9), "{cost:?}");
    }
}
