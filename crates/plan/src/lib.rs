//! Planning of a run. The cells of the matrix, the seeds, the repeats and the variants determine the list of trials before any trial
//! starts. The functions are pure.

pub use chaosrun_scenario::digest;
pub mod declared;
pub mod forecast;
pub mod outcome;
pub mod power;
mod preview;
pub mod resume;
#[cfg(any(test, feature = "samples"))]
pub mod sample;
pub mod select;
mod trial;

use std::sync::Arc;

use indexmap::IndexMap;

use chaosrun_event::{TrialRole, Verdict};
use chaosrun_scenario::model::Scenario;
use chaosrun_scenario::{Cell, Loaded, LoadedCampaign};

pub use trial::TrialPlan;

/// All trials of a plan, in the order in which they start.
#[derive(Debug, Clone)]
pub struct TrialSchedule {
    pub trials: Vec<Arc<TrialPlan>>,
}

/// Test of a scenario: a trial, and the verdicts that are expected for this trial.
#[derive(Debug, Clone)]
pub struct CheckPlan {
    pub name: String,
    pub trial: Arc<TrialPlan>,
    pub expect: Vec<Verdict>,
}

impl TrialSchedule {
    /// Concatenates several plans and numbers their trials consecutively.
    #[must_use]
    pub fn joined(plans: Vec<Self>) -> Self {
        let trials = plans.into_iter().flat_map(|plan| plan.trials);
        let numbered = trials.enumerate().map(|(place, trial)| {
            if trial.number == place + 1 { trial } else { Arc::new(TrialPlan { number: place + 1, ..TrialPlan::clone(&trial) }) }
        });
        Self { trials: numbered.collect() }
    }
}

/// Plans all trials of a loaded scenario, in the order that [`in_turn`] defines.
#[must_use]
pub fn plan(loaded: &Loaded) -> TrialSchedule {
    in_turn(std::slice::from_ref(loaded))
}

/// Plans all scenarios of a campaign as [`in_turn`] does.
#[must_use]
pub fn campaign(loaded: &LoadedCampaign) -> TrialSchedule {
    in_turn(&loaded.scenarios)
}

/// Plans scenarios seed by seed. For each seed, the plan visits the cells of all scenarios one after another. All variants of one seed and
/// cell are adjacent. An interrupted run therefore leaves complete pairs, and about equally many trials of each cell.
#[must_use]
pub fn in_turn(all: &[Loaded]) -> TrialSchedule {
    let cells: Vec<(&Loaded, Planned)> =
        all.iter().flat_map(|loaded| loaded.cells.iter().map(move |cell| (loaded, Planned::new(cell)))).collect();
    let seeds = all.iter().map(|loaded| loaded.seeds.len()).max().unwrap_or_default();
    let repeats = all.iter().map(|loaded| loaded.repeat).max().unwrap_or_default();
    let mut trials = Vec::new();
    for turn in 0..seeds {
        for repeat in 1..=repeats {
            for (loaded, cell) in cells.iter().filter(|(loaded, _)| repeat <= loaded.repeat) {
                if let Some(seed) = loaded.seeds.get(turn) {
                    cell.put(*seed, repeat, &mut trials);
                }
            }
        }
    }
    TrialSchedule { trials }
}

/// Cell of a scenario, with the digests that all its trials share.
struct Planned<'c> {
    cell: &'c Cell,
    yardstick: String,
    entries: Vec<(&'c Arc<Scenario>, TrialRole, String)>,
}

impl<'c> Planned<'c> {
    fn new(cell: &'c Cell) -> Self {
        let yardstick = cell.subjects.first().or(cell.controls.first()).map(|one| digest::yardstick(one)).unwrap_or_default();
        let subjects = cell.subjects.iter().map(|one| (one, TrialRole::Subject));
        let all = subjects.chain(cell.controls.iter().map(|one| (one, TrialRole::Control)));
        Self { cell, yardstick, entries: all.map(|(one, role)| (one, role, digest::subject(&one.variant, &one.cluster))).collect() }
    }

    /// Appends the trials of this cell for one seed and one repeat.
    fn put(&self, seed: u64, repeat: usize, trials: &mut Vec<Arc<TrialPlan>>) {
        for (scenario, role, subject) in &self.entries {
            trials.push(Arc::new(TrialPlan {
                number: trials.len() + 1,
                scenario: Arc::clone(scenario),
                seed,
                repeat,
                attempt: 1,
                role: *role,
                cell: self.cell.values.clone(),
                yardstick: self.yardstick.clone(),
                subject: subject.clone(),
                targets: preview::targets(scenario, seed),
                images: IndexMap::new(),
            }));
        }
    }
}

/// Plans the tests that the scenario declares. They use the first cell and the first seed.
#[must_use]
pub fn checks(loaded: &Loaded) -> Vec<CheckPlan> {
    let Some(Cell { values, subjects, .. }) = loaded.cells.first() else { return Vec::new() };
    let (Some(scenario), Some(seed)) = (subjects.first(), loaded.seeds.first().copied()) else { return Vec::new() };
    let mut plans = Vec::new();
    for (name, check) in &scenario.check {
        let Some(variant) = &check.variant else { continue };
        let mut own = scenario.with_variant(variant);
        own.timing = check.timing.clone();
        let trial = TrialPlan {
            number: plans.len() + 1,
            yardstick: digest::yardstick(&own),
            subject: digest::subject(variant, &scenario.cluster),
            targets: preview::targets(&own, seed),
            scenario: Arc::new(own),
            seed,
            repeat: 1,
            attempt: 1,
            role: TrialRole::Check,
            cell: values.clone(),
            images: IndexMap::new(),
        };
        plans.push(CheckPlan { name: name.clone(), trial: Arc::new(trial), expect: check.expect.clone() });
    }
    plans
}

/// Nodes that each fault of a trial will hit, by the id of the fault. `None` means that the nodes are chosen only at the injection.
pub type Targets = IndexMap<String, Option<Vec<String>>>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use chaosrun_diagnostic::{RenderStyle, render};
    use chaosrun_scenario::{Overrides, load_campaign};

    fn planned(text: &str) -> TrialSchedule {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.yaml");
        fs::write(&file, text).unwrap();
        let loaded = load_campaign(&file, &Overrides::default());
        campaign(&loaded.unwrap_or_else(|problems| panic!("{}", render(&problems, RenderStyle::default()))))
    }

    const THREE: &str = "name: three\nscenarios:\n- node_kill.yaml\n- { file: node_pause.yaml, seeds: 5..6 }\n\
        - { file: node_kill.yaml, set: { workload.rate: 100 }, variants: [noop, oracle] }\n\
        variants: [noop, playbook, oracle]\ncontrols: [restart_all]\nseeds: 1..3\nrepeat: 2\n";

    #[test]
    fn a_seed_means_the_same_for_every_variant() {
        let plan = planned(THREE);
        assert_eq!(plan.trials.len(), (3 * 4 + 2 * 4 + 3 * 3) * 2);
        let group = |trial: &TrialPlan| (trial.scenario.name.clone(), trial.cell.len(), trial.seed, trial.repeat);
        let targets: BTreeSet<Vec<String>> = plan.trials.iter().flat_map(|trial| trial.targets.values().flatten().cloned()).collect();
        assert!(targets.len() > 1, "the seeds choose: {targets:?}");
        for pair in plan.trials.chunk_by(|one, other| group(one) == group(other)) {
            let variants: BTreeSet<&str> = pair.iter().map(|trial| trial.scenario.variant.name.as_str()).collect();
            assert_eq!(variants.len(), pair.len(), "each once");
            assert!(pair.len() == 4 || pair.len() == 3 && pair[0].cell["workload.rate"] == 100, "all together");
            for trial in pair {
                assert_eq!(trial.targets, pair[0].targets);
                // The yardstick covers times, load and noise, but not the variant. Random values come from the seed.
                assert_eq!(digest::yardstick(&trial.scenario), pair[0].yardstick);
            }
        }
    }

    #[test]
    fn an_interrupted_campaign_leaves_about_as_many_trials_of_each_cell() {
        let plan = planned(THREE);
        let cell = |trial: &TrialPlan| (trial.scenario.name.clone(), trial.cell.len());
        let full: IndexMap<_, usize> = plan.trials.iter().fold(IndexMap::new(), |mut all, trial| {
            *all.entry((cell(trial), trial.scenario.variant.name.clone())).or_default() += 1;
            all
        });
        for cut in 0..=plan.trials.len() {
            let mut done: IndexMap<_, usize> = full.keys().map(|key| (key.clone(), 0)).collect();
            for trial in &plan.trials[..cut] {
                *done.get_mut(&(cell(trial), trial.scenario.variant.name.clone())).unwrap() += 1;
            }
            let open: Vec<usize> = done.iter().filter(|(key, done)| **done < full[*key]).map(|(_, done)| *done).collect();
            let most = done.values().max().copied().unwrap_or_default();
            assert!(open.iter().all(|done| most - done <= 1), "after {cut}: {done:?}");
        }
        let numbers: Vec<usize> = plan.trials.iter().map(|trial| trial.number).collect();
        assert_eq!(numbers, (1..=plan.trials.len()).collect::<Vec<_>>());
    }
}
