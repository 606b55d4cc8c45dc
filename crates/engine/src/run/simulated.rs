//! Simulation of ten thousand campaigns with the real queue. The trials end in any order. The simulation measures the error rate of
//! `--until decided`.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::budget::Cost;
use super::early_stopping::{EarlyStopping, StoppingQuestion};
use super::queue::{EndedTrial, Policy, TrialQueue};
use chaosrun_analysis::compare::metric::MetricValue;
use chaosrun_base::ids::TrialId;
use chaosrun_event::{AnswerWord, ComparisonProgress, Stopped, Verdict};
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::{Overrides, load};

const CAMPAIGNS: usize = 10_000;
const JOBS: usize = 3;
/// Names of the three simulated variants. The first variant is the reference.
const VARIANTS: [&str; 3] = ["noop", "oracle", "three_commands"];

struct Simulation {
    plan: Vec<Arc<TrialPlan>>,
    until: EarlyStopping,
    ids: Vec<TrialId>,
    random: ChaCha8Rng,
}

impl Simulation {
    fn new(seeds: u64, margin: f64) -> Self {
        let file = concat!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "/scenarios/empty.yaml");
        let variants = VARIANTS.iter().map(|&variant| variant.to_owned()).collect();
        let overrides = Overrides { variants, seeds: Some((1..=seeds).collect()), ..Overrides::default() };
        let plan = chaosrun_plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials;
        let question = StoppingQuestion { reference: VARIANTS[0].into(), metric: MetricValue::Pass, margin, alpha: 0.05 };
        let until = EarlyStopping::new(&plan, question).unwrap();
        let ids = (0..plan.len() * 3).map(|nth| TrialId::try_from(format!("t-{nth}")).unwrap()).collect();
        Self { plan, until, ids, random: ChaCha8Rng::seed_from_u64(11) }
    }

    /// Runs one campaign of agents that pass with the probabilities `rates`. Returns the decisions of the campaign and the number of
    /// trials.
    ///
    /// The next running trial to end is usually a failing one. Pairs taken in the order of their ends would therefore show failures first.
    /// One trial in twenty is invalid.
    fn campaign(&mut self, rates: [f64; 3]) -> (Vec<ComparisonProgress>, usize) {
        let Self { plan, until, ids, random } = self;
        let policy = Policy { jobs: JOBS, retries: 1, until: Some(until.clone()), ..Policy::default() };
        let mut queue = TrialQueue::new(plan, policy);
        let mut running: Vec<(&TrialId, EndedTrial)> = Vec::new();
        let (mut begun, mut decided) = (0, Vec::new());
        loop {
            while let Some(trial) = queue.start(&ids[begun], Duration::ZERO) {
                let rate = VARIANTS.iter().position(|name| *name == trial.scenario.variant.name).map(|place| rates[place]);
                let verdict = match (random.random_bool(0.05), random.random_bool(rate.unwrap())) {
                    (true, _) => Verdict::Invalid,
                    (false, true) => Verdict::Pass,
                    (false, false) => Verdict::Fail,
                };
                running.push((&ids[begun], EndedTrial { verdict, interrupted: false, score: None, code: None, cost: Cost::default() }));
                begun += 1;
            }
            decided.append(&mut queue.decided());
            let Some(last) = running.len().checked_sub(1) else {
                assert!(decided.len() < 2 || queue.news().is_none_or(|(why, _)| matches!(why, Stopped::Decided { .. })));
                return (decided, begun);
            };
            let failed = running.iter().position(|(_, ended)| ended.verdict == Verdict::Fail).filter(|_| random.random_bool(0.9));
            let (id, ended) = running.swap_remove(failed.unwrap_or_else(|| random.random_range(0..=last)));
            queue.ended(id, &ended);
        }
    }

    /// Returns the share of campaigns with at least one answer in `wrong`, and the share of planned trials that were run.
    fn share(&mut self, campaigns: usize, rates: [f64; 3], wrong: &[AnswerWord]) -> (f64, f64) {
        let (mut hits, mut trials) = (0, 0);
        for _ in 0..campaigns {
            let (answers, begun) = self.campaign(rates);
            hits += usize::from(answers.iter().any(|answered| wrong.contains(&answered.answer)));
            trials += begun;
        }
        let count = chaosrun_stats::count;
        (count(hits) / count(campaigns), count(trials) / count(campaigns * self.plan.len()))
    }
}

#[test]
fn early_stopping_keeps_the_error_rate() {
    let apart = [AnswerWord::Better, AnswerWord::Worse];
    let (wrong, _) = Simulation::new(16, 0.1).share(CAMPAIGNS, [0.5; 3], &apart);
    assert!(wrong <= 0.05, "{wrong} of three equal agents");
    // Both variants are worse by exactly the margin.
    let not_worse = [AnswerWord::Better, AnswerWord::NotWorse];
    let (wrong, _) = Simulation::new(16, 0.4).share(CAMPAIGNS / 5, [0.9, 0.5, 0.5], &not_worse);
    assert!(wrong <= 0.05, "{wrong} of two that are worse by the margin");
}

#[test]
fn early_stopping_saves_trials() {
    let (seen, run) = Simulation::new(40, 0.1).share(200, [1.0, 0.1, 0.1], &[AnswerWord::Worse]);
    assert!(seen > 0.95 && run < 0.6, "{seen} with {run} of the trials");
}
