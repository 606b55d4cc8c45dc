//! Fixed sample for tests: sides with two scenarios, controls and failures on chosen seeds.

use chaosrun_event::{ReasonCode, TrialRole, Verdict};
use chaosrun_gallery::{run_id, trial_id};
use chaosrun_store::outcomes::{Invocation, TrialOutcome};

use super::side::Side;

pub fn outcome(scenario: &str, variant: &str, seed: u64, verdict: Option<Verdict>) -> TrialOutcome {
    let passed = verdict == Some(Verdict::Pass);
    TrialOutcome {
        trial: None,
        run: None,
        number: 0,
        scenario: scenario.into(),
        file: format!("scenarios/{scenario}.yaml"),
        variant: variant.into(),
        seed,
        repeat: 1,
        attempt: 1,
        backend: "local".into(),
        role: TrialRole::Subject,
        cell: "{}".into(),
        yardstick: format!("y-{scenario}"),
        subject: format!("s-{variant}"),
        verdict,
        score: verdict.filter(|verdict| *verdict != Verdict::Invalid).map(|_| if passed { 0.94 } else { 0.2 }),
        scorer_version: Some(3),
        reason_code: (!passed).then(|| ReasonCode::Invariant("store_down".into())),
        reason: (!passed).then(|| "store_down of tikv1: observed false, expected true, still violated at the time limit".into()),
        detect_us: Some(200_000 + seed * 1_000),
        diagnose_us: None,
        repair_us: passed.then_some(1_900_000 + seed * 10_000),
        impact_us: Some(if passed { 1_300_000 } else { 6_000_000 }),
        tokens: Some(0),
        usd: Some(0.0),
    }
}

/// Builds a side of two scenarios with `seeds` seeds each, and both controls. The trials of `node_kill` fail on the seeds in `bad`. Every
/// fifth trial of `partition_leader` is invalid. Trial ids begin with `mark`.
pub fn side(name: &str, variant: &str, mark: &str, seeds: u64, bad: &[u64]) -> Side {
    let mut outcomes = Vec::new();
    for scenario in ["node_kill", "partition_leader"] {
        for seed in 1..=seeds {
            let verdict = match (scenario, bad.contains(&seed)) {
                ("node_kill", true) => Verdict::Fail,
                ("partition_leader", true) if seed % 5 == 0 => Verdict::Invalid,
                _ => Verdict::Pass,
            };
            let mut one = outcome(scenario, variant, seed, Some(verdict));
            let place = if scenario == "node_kill" { "k" } else { "p" };
            one.trial = Some(trial_id(&format!("t-{mark}{place}{seed:04}")));
            one.run = Some(run_id(&format!("r-{mark}000001")));
            for (control, impact_us) in [("noop", 8_000_000), ("oracle", 500_000)] {
                let mut beside = outcome(scenario, control, seed, Some(Verdict::Pass));
                (beside.role, beside.impact_us) = (TrialRole::Control, Some(impact_us));
                outcomes.push(beside);
            }
            outcomes.push(one);
        }
    }
    Side::new(name, outcomes, vec![invocation(mark)])
}

pub(crate) fn invocation(mark: &str) -> Invocation {
    Invocation {
        run: run_id(&format!("r-{mark}000001")),
        started: format!("2026-01-0{}T03:04:05Z", if mark == "a" { 2 } else { 3 }).parse().unwrap(),
        version: "0.1.0".into(),
        semantics: 3,
        planned: 40,
        plan: None,
        until: None,
        arguments: vec!["run".into(), "scenarios/campaigns/smoke.yaml".into()],
    }
}
