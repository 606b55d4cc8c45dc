//! Ten thousand campaigns through the queue itself, with trials that end in whatever order: how often `--until decided` is wrong.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::budget::Cost;
use super::queue::{Ended, Policy, Queue};
use super::until::{Question, Until};
use crate::compare::metric::Metric;
use crate::event::{AnswerWord, Answered, Stopped, Verdict};
use crate::ids::TrialId;
use crate::plan::TrialPlan;
use crate::scenario::{Overrides, load};

const CAMPAIGNS: usize = 10_000;
const JOBS: usize = 3;
/// Of three variants, the first of which is the reference.
const VARIANTS: [&str; 3] = ["noop", "oracle", "three_commands"];

struct Simulation {
    plan: Vec<Arc<TrialPlan>>,
    until: Until,
    ids: Vec<TrialId>,
    random: ChaCha8Rng,
}

impl Simulation {
    fn new(seeds: u64, margin: f64) -> Self {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/empty.yaml");
        let variants = VARIANTS.iter().map(|&variant| variant.to_owned()).collect();
        let overrides = Overrides { variants, seeds: Some((1..=seeds).collect()), ..Overrides::default() };
        let plan = crate::plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials;
        let question = Question { reference: VARIANTS[0].into(), metric: Metric::Pass, margin, alpha: 0.05 };
        let until = Until::new(&plan, question).unwrap();
        let ids = (0..plan.len() * 3).map(|nth| TrialId::try_from(format!("t-{nth}")).unwrap()).collect();
        Self { plan, until, ids, random: ChaCha8Rng::seed_from_u64(11) }
    }

    /// One campaign of agents that pass with these chances; what it has decided, and how many trials it took. Of the trials that run one
    /// that fails is the next to end, most often: whoever took pairs as they come would see failures first. One in twenty is invalid.
    fn campaign(&mut self, rates: [f64; 3]) -> (Vec<Answered>, usize) {
        let Self { plan, until, ids, random } = self;
        let policy = Policy { jobs: JOBS, retries: 1, until: Some(until.clone()), ..Policy::default() };
        let mut queue = Queue::new(plan, policy);
        let mut running: Vec<(&TrialId, Ended)> = Vec::new();
        let (mut begun, mut decided) = (0, Vec::new());
        loop {
            while let Some(trial) = queue.start(&ids[begun], Duration::ZERO) {
                let rate = VARIANTS.iter().position(|name| *name == trial.scenario.variant.name).map(|place| rates[place]);
                let verdict = match (random.random_bool(0.05), random.random_bool(rate.unwrap())) {
                    (true, _) => Verdict::Invalid,
                    (false, true) => Verdict::Pass,
                    (false, false) => Verdict::Fail,
                };
                running.push((&ids[begun], Ended { verdict, interrupted: false, score: None, code: None, cost: Cost::default() }));
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

    /// How often any of the answers of a campaign is one of these; and the share of trials that were run.
    fn share(&mut self, campaigns: usize, rates: [f64; 3], wrong: &[AnswerWord]) -> (f64, f64) {
        let (mut hits, mut trials) = (0, 0);
        for _ in 0..campaigns {
            let (answers, begun) = self.campaign(rates);
            hits += usize::from(answers.iter().any(|answered| wrong.contains(&answered.answer)));
            trials += begun;
        }
        let count = crate::stats::count;
        (count(hits) / count(campaigns), count(trials) / count(campaigns * self.plan.len()))
    }
}

#[test]
fn a_campaign_that_stops_when_it_is_decided_is_wrong_no_more_often() {
    let apart = [AnswerWord::Better, AnswerWord::Worse];
    let (wrong, _) = Simulation::new(16, 0.1).share(CAMPAIGNS, [0.5; 3], &apart);
    assert!(wrong <= 0.05, "{wrong} of three equal agents");
    // Both are worse by exactly the margin.
    let not_worse = [AnswerWord::Better, AnswerWord::NotWorse];
    let (wrong, _) = Simulation::new(16, 0.4).share(CAMPAIGNS / 5, [0.9, 0.5, 0.5], &not_worse);
    assert!(wrong <= 0.05, "{wrong} of two that are worse by the margin");
}

#[test]
fn what_is_so_is_decided_with_fewer_trials() {
    let (seen, run) = Simulation::new(40, 0.1).share(200, [1.0, 0.1, 0.1], &[AnswerWord::Worse]);
    assert!(seen > 0.95 && run < 0.6, "{seen} with {run} of the trials");
}
