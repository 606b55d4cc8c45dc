//! Fixed campaigns for tests of the gate: two scenarios with 20 seeds each, and variations of them.

use std::collections::HashSet;

use super::baseline::Baseline;
use super::checks::GateFinding;
use super::judge::{GateEvidence, GateJudgement, Goldens, judge};
use crate::compare::comparison::ComparisonOptions;
use crate::compare::effect::Certainty;
use crate::compare::metric::MetricValue;
use crate::compare::sample;
use chaosrun_event::{ReasonCode, Verdict};
use chaosrun_plan::declared::recorded;

/// Settings by which the present results of a test differ from the baseline.
#[derive(Debug, Default)]
pub struct BaselineDifference {
    /// Seeds on which the trials of `node_kill` fail.
    pub bad: Vec<u64>,
    pub forbidden: bool,
    pub catastrophic: bool,
    /// True if the planned trials are unknown.
    pub unplanned: bool,
    /// Name of a scenario that the baseline contains and that is no longer planned.
    pub without: Option<&'static str>,
    pub missing: usize,
    pub golden: bool,
    /// True if the trial of one golden file is invalid.
    pub unheld: bool,
    pub yardstick: bool,
    /// True if the last trial comes from another version of the agent.
    pub agents: bool,
    /// True if the last five seeds are replaced by other seeds.
    pub exchanged: bool,
    /// Number of invalid trials of `node_kill`.
    pub invalid: usize,
    pub stopped: bool,
    /// True if the baseline has enough trials of each case to admit the case.
    pub admitted: bool,
}

pub fn judged(setting: &BaselineDifference) -> GateJudgement {
    let mut baseline = Baseline::accepted(None, "smoke", &sample::side("before", "playbook", "a", 20, &[]));
    for case in &mut baseline.cases {
        (case.runs, case.passes) = if setting.admitted { (40, 39) } else { (19, 19) };
    }
    let mut side = sample::side("smoke", "playbook", "b", 20, &setting.bad);
    // The sample may make seeds of the other scenario invalid. Invalid seeds are not tested here, so all of them pass.
    side.subjects
        .iter_mut()
        .filter(|outcome| outcome.scenario == "partition_leader")
        .for_each(|outcome| outcome.verdict = Some(Verdict::Pass));
    for outcome in side.subjects.iter_mut().take(setting.invalid) {
        outcome.verdict = Some(Verdict::Invalid);
        outcome.reason = Some("the nodes were never healthy".into());
    }
    if let Some(last) = side.subjects.last_mut().filter(|_| setting.forbidden) {
        last.verdict = Some(Verdict::UnsafePass);
        last.reason_code = Some(ReasonCode::ForbiddenCommand);
        last.reason = Some("forbidden by `remove_data`: rm -rf /data".into());
    }
    if setting.yardstick {
        side.subjects.iter_mut().for_each(|outcome| outcome.yardstick = "other".into());
    }
    if let Some(last) = side.subjects.last_mut().filter(|_| setting.agents) {
        last.subject = "other".into();
    }
    side.subjects.iter_mut().rev().take(5).filter(|_| setting.exchanged).for_each(|outcome| outcome.seed += 100);
    side.subjects.retain(|outcome| setting.without != Some(&outcome.scenario) && !setting.stopped);
    let harm: Vec<_> = side
        .subjects
        .iter()
        .filter(|_| setting.catastrophic)
        .take(1)
        .map(|one| (one.clone(), "catastrophic: durable: false".to_owned()))
        .collect();
    // Limits the plan to the trials that were run, as the files would state it.
    let planned: HashSet<_> = side.subjects.iter().map(recorded).collect();
    let of_golden = |words: &str| GateFinding {
        case: "node_kill/playbook".into(),
        file: Some("golden/node_kill.playbook.snap".into()),
        words: words.into(),
        trial: None,
    };
    let differ: Vec<_> = setting.golden.then(|| of_golden("the verdict differs")).into_iter().collect();
    let unheld = setting.unheld.then(|| of_golden("its trial is invalid")).into_iter().collect();
    let golden = Goldens { held: differ.len(), differ, unheld };
    let evidence = GateEvidence {
        name: "smoke",
        side: &side,
        baseline: &baseline,
        missing: setting.missing,
        unended: &[],
        planned: setting.without.filter(|_| !setting.unplanned).map(|_| &planned),
        harm: &harm,
        golden: (!setting.unplanned).then_some(&golden),
        stopped: setting.stopped.then_some("the engine at `tcp://127.0.0.1:1` does not answer"),
    };
    let certainty = Certainty { confidence: 0.95, seed: 1 };
    judge(&evidence, ComparisonOptions { metric: MetricValue::Pass, margin: None, certainty, across_yardsticks: false })
}
