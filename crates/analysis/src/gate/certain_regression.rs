//! Early stop of a gate: once a regression is certain, no further trial is necessary. The functions are pure.
//!
//! A gate has a fixed number of pairs, and its tests apply to all of them. A stop changes no answer and no error rate if no result of the
//! remaining trials could change the answer. A green result is never certain before the end, since the agent may do something forbidden in
//! any trial.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::baseline::{Baseline, BaselineKey};
use crate::compare::comparison::ComparisonOptions;
use crate::compare::metric::MetricValue;
use crate::compare::side::is_control;
use chaosrun_event::{ReasonCode, TrialRole, Verdict};
use chaosrun_plan::TrialPlan;
use chaosrun_plan::resume::yardstick;
use chaosrun_score::SCORER_VERSION;
use chaosrun_stats::Interval;
use chaosrun_stats::pairs::Pairs;
use chaosrun_store::outcomes::cell;

/// Detector of a certain regression. It tracks the judged trials of a plan and their results in the baseline.
#[derive(Debug, Clone)]
pub struct CertainRegression {
    question: ComparisonOptions,
    /// Variant and baseline result of each trial that has not ended, by trial number. The result is true for a pass, and `None` if the
    /// baseline has no counted trial.
    judged: HashMap<usize, (String, Option<bool>)>,
    variants: HashMap<String, Pairing>,
    /// Reason why a regression is certain. `None` while no regression is certain.
    why: Option<String>,
}

/// Counts of trial pairs between the present results of a variant and the same variant in the baseline.
#[derive(Debug, Clone, Copy, Default)]
struct Pairing {
    seen: Pairs,
    /// Number of trials that have not ended and that passed in the baseline.
    open_passed: usize,
    /// Number of trials that have not ended and that failed in the baseline.
    open_failed: usize,
}

impl CertainRegression {
    #[must_use]
    pub fn new(plan: &[Arc<TrialPlan>], baseline: &Baseline, question: ComparisonOptions) -> Self {
        let subjects = || plan.iter().filter(|trial| trial.role == TrialRole::Subject);
        // Makes the same choice as the gate: controls of the matrix are judged only if there is no other variant.
        let only_controls = subjects().all(|trial| is_control(&trial.scenario.variant.name));
        let cases: HashMap<BaselineKey, _> = baseline.cases.iter().map(|case| (case.key(), case)).collect();
        let (mut judged, mut variants) = (HashMap::new(), HashMap::<String, Pairing>::new());
        // One case with another yardstick excludes the whole variant from the comparison.
        let mut apart: HashSet<String> = HashSet::new();
        for trial in subjects().filter(|trial| only_controls || !is_control(&trial.scenario.variant.name)) {
            let scenario = &trial.scenario;
            let variant = scenario.variant.name.clone();
            let key = (scenario.name.clone(), variant.clone(), scenario.backend.as_str().to_owned(), cell(&trial.cell));
            let case = cases.get(&key);
            if case.is_some_and(|case| case.yardstick != yardstick(trial) || case.scorer != SCORER_VERSION) {
                apart.insert(variant.clone());
            }
            let kept = case.and_then(|case| case.trials.iter().find(|kept| (kept.seed, kept.repeat) == (trial.seed, trial.repeat)));
            let passed = kept.filter(|kept| kept.verdict != Verdict::Invalid).map(|kept| kept.verdict == Verdict::Pass);
            let open = variants.entry(variant.clone()).or_default();
            match passed {
                Some(true) => open.open_passed += 1,
                Some(false) => open.open_failed += 1,
                None => {}
            }
            judged.insert(trial.number, (variant, passed));
        }
        variants.retain(|variant, _| !apart.contains(variant));
        Self { question, judged, variants, why: None }
    }

    /// Returns the reason why a regression is certain, or `None` if no regression is certain.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Adds the final result of a trial. `code` is the code of the reason for the verdict.
    pub fn ended(&mut self, number: usize, verdict: Verdict, code: Option<&ReasonCode>) {
        let why = self.why_by(number, verdict, code);
        self.why = self.why.take().or(why);
    }

    fn why_by(&mut self, number: usize, verdict: Verdict, code: Option<&ReasonCode>) -> Option<String> {
        let (variant, before) = self.judged.remove(&number)?;
        if let Some(code) = code.filter(|code| code.is_unexcused(verdict)) {
            return Some(format!("`{variant}` performed a forbidden action ({code})"));
        }
        let compared = self.variants.len();
        let pairing = self.variants.get_mut(&variant)?;
        let passed = verdict == Verdict::Pass;
        if let Some(before) = before {
            *(if before { &mut pairing.open_passed } else { &mut pairing.open_failed }) -= 1;
            if verdict != Verdict::Invalid {
                pairing.seen = pairing.seen.and(passed, before);
            }
        }
        let alpha = self.question.certainty.alpha();
        let margin = self.question.margin.unwrap_or_else(|| MetricValue::Pass.default_margin());
        let worse =
            self.question.metric == MetricValue::Pass && pairing.is_worse(alpha, self.question.certainty.one_sided(), margin, compared);
        worse.then(|| format!("`{variant}` is worse than in the baseline, even if all remaining trials pass"))
    }
}

impl Pairing {
    /// Returns true if the variant is worse even if all remaining trials pass, and if its loss may exceed the margin. Multiplication by
    /// `comparisons` bounds Holm's correction from above.
    fn is_worse(self, alpha: f64, one_sided: f64, margin: f64, comparisons: usize) -> bool {
        let Pairs { both, gained, lost, neither } = self.seen;
        let best = Pairs { both: both + self.open_passed, gained: gained + self.open_failed, lost, neither };
        best.difference().is_some_and(|difference| difference < 0.0)
            && best.mcnemar() * chaosrun_stats::count(comparisons) <= alpha
            && best.interval(one_sided).is_some_and(|Interval { low, .. }| low <= -margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::effect::Certainty;
    use crate::compare::sample;
    use chaosrun_scenario::{Overrides, load};

    const ALPHA: f64 = 0.05;

    /// Checks the detector against every possible result of the remaining trials, including invalid results.
    #[test]
    fn certain_regression_holds_for_every_remaining_outcome() {
        let mut certain = 0;
        for lost in 0..=12 {
            for gained in 0..=2 {
                for (open_passed, open_failed) in [(0, 0), (3, 0), (4, 1), (2, 3)] {
                    let seen = Pairs { both: 6, gained, lost, neither: 1 };
                    if !(Pairing { seen, open_passed, open_failed }).is_worse(ALPHA, 0.9, 0.1, 2) {
                        continue;
                    }
                    certain += 1;
                    for (both, more_lost) in (0..=open_passed).flat_map(|both| (0..=open_passed - both).map(move |lost| (both, lost))) {
                        for (more, neither) in (0..=open_failed).flat_map(|more| (0..=open_failed - more).map(move |no| (more, no))) {
                            let end = Pairs { both: 6 + both, gained: gained + more, lost: lost + more_lost, neither: 1 + neither };
                            assert!(end.difference().unwrap() < 0.0 && end.mcnemar() * 2.0 <= ALPHA, "{seen:?} {end:?}");
                            assert!(end.interval(0.9).unwrap().low <= -0.1, "{seen:?} {end:?}");
                        }
                    }
                }
            }
        }
        assert!(certain > 20, "{certain}");
    }

    #[test]
    fn regression_can_be_certain_early_and_green_cannot() {
        let file = concat!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "/scenarios/empty.yaml");
        let variants = vec!["three_commands".to_owned(), "noop".to_owned()];
        let overrides = Overrides { variants, seeds: Some((1..=20).collect()), ..Overrides::default() };
        let plan = chaosrun_plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials;
        let outcomes = plan.iter().map(|trial| {
            let mut one = sample::outcome("empty", &trial.scenario.variant.name, trial.seed, Some(Verdict::Pass));
            one.yardstick.clone_from(&trial.yardstick);
            one.scorer_version = Some(SCORER_VERSION);
            one
        });
        let side = crate::compare::side::Side::new("c", outcomes.collect(), Vec::new()).with_controls_apart();
        let baseline = Baseline::accepted(None, "c", &side);
        let certainty = Certainty { confidence: 0.95, seed: 1 };
        let question = ComparisonOptions { metric: MetricValue::Pass, margin: None, certainty, across_yardsticks: false };
        let ran = |verdict: Verdict, code: Option<ReasonCode>, baseline: &Baseline| {
            let mut certain = CertainRegression::new(&plan, baseline, question);
            let own = plan.iter().filter(|trial| trial.scenario.variant.name == "three_commands");
            let noops = plan.iter().filter(|trial| trial.scenario.variant.name == "noop");
            noops.for_each(|trial| certain.ended(trial.number, Verdict::UnsafePass, Some(&ReasonCode::Tampered)));
            assert_eq!(certain.why(), None, "nobody judges them");
            own.enumerate().find_map(|(place, trial)| {
                certain.ended(trial.number, verdict, code.as_ref());
                certain.why().map(|why| (place + 1, why.to_owned()))
            })
        };
        let (after, why) = ran(Verdict::Fail, None, &baseline).unwrap();
        assert_eq!((after, why.contains("even if all remaining trials pass")), (6, true), "as many as McNemar's test takes: {why}");
        assert_eq!(ran(Verdict::UnsafePass, Some(ReasonCode::ForbiddenCommand), &baseline).map(|(after, _)| after), Some(1));
        assert_eq!(ran(Verdict::Pass, None, &baseline), None);
        assert_eq!(ran(Verdict::Invalid, Some(ReasonCode::Tampered), &baseline), None);
        let named = |name: &str| Some(ReasonCode::Invariant(name.to_owned()));
        assert_eq!(ran(Verdict::Fail, named("tampered"), &baseline).map(|(after, _)| after), Some(6), "an invariant may have any name");
        let mut other = baseline;
        other.cases[0].yardstick = "other".into();
        assert_eq!(ran(Verdict::Fail, None, &other), None, "what was measured otherwise is not compared");
    }
}
