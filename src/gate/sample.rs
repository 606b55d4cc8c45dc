//! Fixed campaigns for tests of the gate: 20 seeds of two scenarios, changed in one way or another.

use super::baseline::{Baseline, key};
use super::judge::{Evidence, Judgement, judge};
use super::rung::Finding;
use crate::compare::comparison::Question;
use crate::compare::effect::Certainty;
use crate::compare::metric::Metric;
use crate::compare::sample;
use crate::event::Verdict;

/// What is different from the baseline.
#[derive(Debug, Default)]
pub(crate) struct Setting {
    /// Seeds of `node_kill` that fail.
    pub(crate) bad: Vec<u64>,
    pub(crate) forbidden: bool,
    pub(crate) catastrophic: bool,
    /// Nothing is known of what was planned.
    pub(crate) unplanned: bool,
    /// A scenario that is not planned any more.
    pub(crate) without: Option<&'static str>,
    pub(crate) missing: usize,
    pub(crate) golden: bool,
    pub(crate) yardstick: bool,
    /// So many trials of `node_kill`.
    pub(crate) invalid: usize,
    pub(crate) stopped: bool,
    /// The baseline knows its cases well enough.
    pub(crate) admitted: bool,
}

pub(crate) fn judged(setting: &Setting) -> Judgement {
    let mut baseline = Baseline::accepted(None, "smoke", &sample::side("before", "playbook", "a", 20, &[]));
    for case in &mut baseline.cases {
        (case.runs, case.passes) = if setting.admitted { (40, 39) } else { (19, 19) };
    }
    let mut side = sample::side("smoke", "playbook", "b", 20, &setting.bad);
    // Seeds of the other scenario that the sample makes invalid are of no interest here.
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
        last.reason_code = Some("forbidden_command".into());
        last.reason = Some("forbidden by `remove_data`: rm -rf /data".into());
    }
    if setting.yardstick {
        side.subjects.iter_mut().for_each(|outcome| outcome.yardstick = "other".into());
    }
    side.subjects.retain(|outcome| setting.without != Some(&outcome.scenario) && !setting.stopped);
    let catastrophic: Vec<_> =
        side.subjects.iter().filter(|_| setting.catastrophic).take(1).map(|one| (one.clone(), "durable: false".to_owned())).collect();
    // Of what was run alone: the file says so.
    let planned: Vec<_> = side.subjects.iter().map(key).collect();
    let golden = [Finding {
        case: "node_kill/playbook".into(),
        file: Some("golden/node_kill.playbook.snap".into()),
        words: "the verdict differs".into(),
        trial: None,
    }];
    let evidence = Evidence {
        name: "smoke",
        side: &side,
        baseline: &baseline,
        missing: setting.missing,
        unended: &[],
        planned: setting.without.filter(|_| !setting.unplanned).map(|_| planned.as_slice()),
        catastrophic: &catastrophic,
        golden: setting.golden.then_some(&golden),
        stopped: setting.stopped.then_some("the engine at `tcp://127.0.0.1:1` does not answer"),
    };
    let certainty = Certainty { confidence: 0.95, seed: 1 };
    judge(&evidence, Question { metric: Metric::Pass, margin: None, certainty, across_yardsticks: false })
}
