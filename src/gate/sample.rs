//! Fixed campaigns for tests of the gate: 20 seeds of two scenarios, changed in one way or another.

use std::collections::HashSet;

use super::baseline::Baseline;
use super::judge::{Evidence, Goldens, Judgement, judge};
use super::rung::Finding;
use crate::compare::comparison::Question;
use crate::compare::effect::Certainty;
use crate::compare::metric::Metric;
use crate::compare::sample;
use crate::event::Verdict;
use crate::plan::declared::recorded;

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
    /// A golden whose trial is invalid.
    pub(crate) unheld: bool,
    pub(crate) yardstick: bool,
    /// The last trial is of another version of the agent.
    pub(crate) agents: bool,
    /// The last five seeds are others.
    pub(crate) exchanged: bool,
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
    // Of what was run alone: the file says so.
    let planned: HashSet<_> = side.subjects.iter().map(recorded).collect();
    let of_golden = |words: &str| Finding {
        case: "node_kill/playbook".into(),
        file: Some("golden/node_kill.playbook.snap".into()),
        words: words.into(),
        trial: None,
    };
    let differ: Vec<_> = setting.golden.then(|| of_golden("the verdict differs")).into_iter().collect();
    let unheld = setting.unheld.then(|| of_golden("its trial is invalid")).into_iter().collect();
    let golden = Goldens { held: differ.len(), differ, unheld };
    let evidence = Evidence {
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
    judge(&evidence, Question { metric: Metric::Pass, margin: None, certainty, across_yardsticks: false })
}
