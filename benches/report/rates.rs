//! Error rates of `compare` and `gate`, measured on ten thousand simulated campaigns of agents whose true pass rates are known.
//!
//! Results for a fixed number of pairs go through the whole comparison and the judge. Results while pairs are still being collected
//! (`--until decided`) are simulated in a test of the queue.

use chaosrun_analysis::compare::answer::ComparisonAnswer;
use chaosrun_analysis::compare::comparison::{Comparison, ComparisonOptions};
use chaosrun_analysis::compare::effect::Certainty;
use chaosrun_analysis::compare::metric::MetricValue;
use chaosrun_analysis::compare::side::Side;
use chaosrun_analysis::gate::baseline::Baseline;
use chaosrun_analysis::gate::checks::GateRuling;
use chaosrun_analysis::gate::judge::{GateEvidence, judge};
use chaosrun_event::{TrialRole, Verdict};
use chaosrun_store::outcomes::TrialOutcome;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Report;

/// Maximum permitted error rate in percent.
const ALLOWED: f64 = 5.0;
const MARGIN: f64 = 0.1;

pub fn rates(report: &mut Report, campaigns: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let mut row = |name: &'static str, wrong: &mut dyn FnMut(&mut ChaCha8Rng) -> bool| {
        let wrong = (0..campaigns).filter(|_| wrong(&mut random)).count();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        report.add(name, "%", ALLOWED, vec![wrong as f64 / campaigns as f64 * 100.0]);
    };
    row("compare: equal agents said to differ, 60 pairs", &mut |random| apart(&[0.9, 0.9], 60, random));
    row("compare: equal agents said to differ, 12 pairs", &mut |random| apart(&[0.5, 0.5], 12, random));
    row("compare: any of three equal to the reference", &mut |random| apart(&[0.8; 4], 40, random));
    row("compare: worse by the margin, said not to be", &mut |random| {
        let found = compared(&[0.9, 0.8], 60, random);
        found.iter().any(|answer| !matches!(answer, ComparisonAnswer::Worse | ComparisonAnswer::Inconclusive { .. }))
    });
    row("compare: others, eight scenarios that differ", &mut others);
    row("gate: three unchanged agents, a regression", &mut |random| judged(&[0.8; 3], &[0.8; 3], random) == GateRuling::Regression);
    row("gate: worse by the margin, and green", &mut |random| judged(&[0.9], &[0.8], random) == GateRuling::Green);
    row("gate: one of three worse by the margin, and green", &mut |random| {
        judged(&[0.9; 3], &[0.9, 0.8, 0.9], random) == GateRuling::Green
    });
}

/// Compares simulated variants with the given pass rates. The first variant is the reference.
fn compared(rates: &[f64], pairs: u64, random: &mut ChaCha8Rng) -> Vec<ComparisonAnswer> {
    let mut sides = rates.iter().enumerate().map(|(place, rate)| {
        let name = format!("v{place}");
        let trials = (1..=pairs).map(|seed| outcome("s", &name, seed, random.random_bool(*rate))).collect();
        Side::new(name.clone(), trials, Vec::new())
    });
    let reference = sides.next().expect("a reference");
    let subjects: Vec<Side> = sides.collect();
    let found = Comparison::of(&reference, &subjects, question()).expect("measured alike");
    found.subjects.iter().filter_map(|subject| subject.conclusion.as_ref()).map(|conclusion| conclusion.answer).collect()
}

fn apart(rates: &[f64], pairs: u64, random: &mut ChaCha8Rng) -> bool {
    compared(rates, pairs, random).iter().any(|answer| matches!(answer, ComparisonAnswer::Better | ComparisonAnswer::Worse))
}

/// Simulates a comparison of equal agents. Returns true if the interval across scenarios excludes zero, or is absent. The subject is better
/// or worse by up to 40 percentage points per scenario, with mean zero.
fn others(random: &mut ChaCha8Rng) -> bool {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for scenario in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let shift: f64 = random.random_range(-0.4..0.4);
        for seed in 1..=8 {
            theirs.push(outcome(scenario, "v0", seed, random.random_bool(0.5)));
            ours.push(outcome(scenario, "v1", seed, random.random_bool(0.5 + shift)));
        }
    }
    let (reference, subject) = (Side::new("v0", theirs, Vec::new()), Side::new("v1", ours, Vec::new()));
    let found = Comparison::of(&reference, &[subject], question()).expect("measured alike");
    found.subjects[0].across_scenarios.is_none_or(|across| !across.interval.holds(0.0))
}

/// Applies the gate to simulated variants, whose pass rates are `before` in the baseline and `now` afterwards. Each variant has 60 pairs.
fn judged(before: &[f64], now: &[f64], random: &mut ChaCha8Rng) -> GateRuling {
    let mut side = |rates: &[f64]| {
        let mut trials = Vec::new();
        for (place, rate) in rates.iter().enumerate() {
            trials.extend((1..=60).map(|seed| outcome("s", &format!("v{place}"), seed, random.random_bool(*rate))));
        }
        Side::new("c", trials, Vec::new())
    };
    let baseline = Baseline::accepted(None, "c", &side(before));
    let side = side(now);
    let evidence = GateEvidence {
        name: "c",
        side: &side,
        baseline: &baseline,
        missing: 0,
        unended: &[],
        planned: None,
        harm: &[],
        golden: None,
        stopped: None,
    };
    judge(&evidence, question()).ruling
}

const fn question() -> ComparisonOptions {
    let certainty = Certainty { confidence: 0.95, seed: 1 };
    ComparisonOptions { metric: MetricValue::Pass, margin: Some(MARGIN), certainty, across_yardsticks: false }
}

/// Returns a trial outcome in which only the verdict is meaningful.
fn outcome(scenario: &str, variant: &str, seed: u64, passed: bool) -> TrialOutcome {
    TrialOutcome {
        trial: None,
        run: None,
        number: 0,
        scenario: scenario.into(),
        file: String::new(),
        variant: variant.into(),
        seed,
        repeat: 1,
        attempt: 1,
        backend: "local".into(),
        role: TrialRole::Subject,
        cell: "{}".into(),
        yardstick: "y".into(),
        subject: "s".into(),
        verdict: Some(if passed { Verdict::Pass } else { Verdict::Fail }),
        score: None,
        scorer_version: Some(1),
        reason_code: None,
        reason: None,
        detect_us: None,
        diagnose_us: None,
        repair_us: None,
        impact_us: None,
        tokens: None,
        usd: None,
    }
}
