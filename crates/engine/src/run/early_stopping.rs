//! Early stopping (`--until decided`): the comparisons that a plan can decide, their progress, and the trials that they still need. All
//! functions are free of IO.
//!
//! Pairs of trials are counted in the order of the plan. A later pair waits for all earlier pairs, regardless of the number of parallel
//! trials. The decisions and their numbers of pairs are therefore the same as if trials ran one after another. Trials that end sooner cause
//! no bias.

use std::collections::HashMap;
use std::sync::Arc;

use chaosrun_analysis::compare::metric::{MetricValue, rounded};
use chaosrun_event::{AnswerWord, ComparisonProgress, Sought, TrialRole, Verdict};
use chaosrun_plan::TrialPlan;
use chaosrun_plan::resume::cell;
use chaosrun_stats::power::MOST;
use chaosrun_stats::sequential::{PairedSequence, SequentialDecision, turns};

/// Comparison of variants that the user requests.
#[derive(Debug, Clone, PartialEq)]
pub struct StoppingQuestion {
    pub reference: String,
    pub metric: MetricValue,
    /// Non-inferiority margin: the accepted loss against the reference, in the unit of the metric. Above 0 and below 1.
    pub margin: f64,
    /// Accepted probability that at least one of all decisions is wrong.
    pub alpha: f64,
}

/// Reason why a plan cannot decide the requested comparison.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecidable {
    #[error("the reference variant `{reference}` is not under test in this run")]
    NoReference { reference: String, variants: Vec<String> },
    #[error("only `{reference}` is under test, so there is no variant to compare it with")]
    Alone { reference: String },
    #[error("`{0}` is unbounded, so it cannot be decided early")]
    Unbounded(&'static str),
    #[error("{pairs} pairs are too few for any decision: at least {needed} are needed")]
    TooFew { pairs: usize, needed: usize },
}

/// State of all comparisons of a run.
#[derive(Debug, Clone)]
pub struct EarlyStopping {
    question: StoppingQuestion,
    comparisons: Vec<Comparison>,
    /// Results of ended trials, by trial number. The result is `None` if the trial does not count.
    ended: HashMap<usize, Option<f64>>,
}

/// Comparison of one variant with the reference variant.
#[derive(Debug, Clone)]
struct Comparison {
    variant: String,
    /// Pairs of trials in the order of the plan.
    pairs: Vec<Pair>,
    /// Number of pairs that have been counted, from the start of `pairs`.
    taken: usize,
    sequence: PairedSequence,
    /// True if the remaining pairs cannot decide the comparison, whatever their results are.
    out_of_reach: bool,
}

/// Pair of two trials, identified by their trial numbers.
#[derive(Debug, Clone, Copy)]
struct Pair {
    subject: usize,
    reference: usize,
    /// True if a turn ends after this pair, so that the statistical test is evaluated. A turn contains at most one pair of each scenario.
    ends_turn: bool,
}

impl EarlyStopping {
    /// Creates the comparisons. `plan` contains all trials, including trials that are recorded already.
    ///
    /// # Errors
    /// Returns the reason if the plan cannot decide the requested comparison.
    pub fn new(plan: &[Arc<TrialPlan>], question: StoppingQuestion) -> Result<Self, Undecidable> {
        if !matches!(question.metric, MetricValue::Pass | MetricValue::Score) {
            return Err(Undecidable::Unbounded(question.metric.as_str()));
        }
        let mut variants: Vec<String> = Vec::new();
        let mut references = HashMap::new();
        let judged = || plan.iter().filter(|trial| trial.role == TrialRole::Subject);
        for trial in judged() {
            let variant = &trial.scenario.variant.name;
            if *variant == question.reference {
                references.insert(place(trial), trial.number);
            }
            if !variants.contains(variant) {
                variants.push(variant.clone());
            }
        }
        if !variants.contains(&question.reference) {
            return Err(Undecidable::NoReference { reference: question.reference, variants });
        }
        variants.retain(|variant| *variant != question.reference);
        if variants.is_empty() {
            return Err(Undecidable::Alone { reference: question.reference });
        }
        #[expect(clippy::cast_precision_loss, reason = "a few variants")]
        let alpha = question.alpha / variants.len() as f64;
        let compared = |variant: String| {
            let of = judged().filter(|trial| trial.scenario.variant.name == variant);
            let pairs: Vec<_> = of.filter_map(|trial| Some((trial, *references.get(&place(trial))?))).collect();
            let ends = turns(pairs.iter().map(|(trial, _)| kind(trial)));
            let pairs =
                pairs.into_iter().zip(ends).map(|((trial, reference), ends_turn)| Pair { subject: trial.number, reference, ends_turn });
            let pairs = pairs.collect();
            Comparison { variant, pairs, taken: 0, sequence: PairedSequence::new(alpha, question.margin), out_of_reach: false }
        };
        let comparisons: Vec<Comparison> = variants.into_iter().map(compared).collect();
        let pairs = comparisons.iter().map(|comparison| comparison.pairs.len()).max().unwrap_or_default();
        let fresh = PairedSequence::new(alpha, question.margin);
        if !fresh.can_decide(pairs) {
            let needed = (pairs..=MOST).find(|more| fresh.can_decide(*more)).unwrap_or(MOST);
            return Err(Undecidable::TooFew { pairs, needed });
        }
        Ok(Self { comparisons, question, ended: HashMap::new() })
    }

    /// Returns the requested comparisons in the form in which an event records them.
    #[must_use]
    pub fn sought(&self) -> Sought {
        let StoppingQuestion { reference, metric, margin, alpha } = &self.question;
        let (metric, comparisons) = (metric.as_str().to_owned(), self.comparisons.len());
        Sought { reference: reference.clone(), metric, margin: *margin, alpha: *alpha, comparisons }
    }

    /// Processes the final result of a trial. Returns the variants whose comparison is now decided or can no longer be decided.
    pub fn ended(&mut self, number: usize, verdict: Verdict, score: Option<f64>) -> Vec<String> {
        let value = match (verdict, self.question.metric) {
            (Verdict::Invalid, _) => None,
            (_, MetricValue::Score) => score.map(rounded),
            (verdict, _) => Some(if verdict == Verdict::Pass { 1.0 } else { 0.0 }),
        };
        self.ended.insert(number, value);
        let Self { comparisons, ended, .. } = self;
        let open = comparisons.iter_mut().filter(|comparison| !comparison.is_settled());
        open.filter_map(|comparison| comparison.take(ended).then(|| comparison.variant.clone())).collect()
    }

    /// Returns the names of the variants that need no further trials.
    #[must_use]
    pub fn settled(&self) -> Vec<String> {
        self.comparisons.iter().filter(|one| one.is_settled()).map(|one| one.variant.clone()).collect()
    }

    #[must_use]
    pub fn is_settled(&self, variant: &str) -> bool {
        self.comparisons.iter().any(|one| one.variant == variant && one.is_settled())
    }

    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.comparisons.iter().all(Comparison::is_settled)
    }

    #[must_use]
    pub const fn comparisons(&self) -> usize {
        self.comparisons.len()
    }

    /// Returns the current result of the comparison of a variant; `None` for an unknown variant.
    #[must_use]
    pub fn answer(&self, variant: &str, not_needed: usize) -> Option<ComparisonProgress> {
        self.comparisons.iter().find(|comparison| comparison.variant == variant).map(|comparison| self.answered(comparison, not_needed))
    }

    /// Returns the current results of the comparisons that are not decided.
    #[must_use]
    pub fn open(&self) -> Vec<ComparisonProgress> {
        self.comparisons.iter().filter(|one| !one.is_settled()).map(|comparison| self.answered(comparison, 0)).collect()
    }

    fn answered(&self, comparison: &Comparison, not_needed: usize) -> ComparisonProgress {
        let Comparison { variant, sequence, .. } = comparison;
        let interval = sequence.interval();
        let answer = match sequence.decision() {
            Some(SequentialDecision::Better) => AnswerWord::Better,
            Some(SequentialDecision::Worse) => AnswerWord::Worse,
            Some(SequentialDecision::NotWorse) => AnswerWord::NotWorse,
            None if comparison.out_of_reach => AnswerWord::OutOfReach,
            None => AnswerWord::Inconclusive,
        };
        let more = if sequence.decision().is_none() { sequence.more_pairs(MOST) } else { None };
        let sought = self.sought();
        #[expect(clippy::cast_precision_loss, reason = "a few variants")]
        let confidence = 1.0 - sought.alpha / sought.comparisons as f64;
        ComparisonProgress {
            variant: variant.clone(),
            reference: sought.reference,
            metric: sought.metric,
            margin: sought.margin,
            answer,
            pairs: sequence.pairs(),
            difference: sequence.mean(),
            low: interval.low,
            high: interval.high,
            confidence,
            more,
            not_needed,
        }
    }
}

impl Comparison {
    fn is_settled(&self) -> bool {
        self.out_of_reach || self.sequence.decision().is_some()
    }

    /// Counts ended pairs that are next in the order of the plan. Returns true if the comparison is now decided or can no longer be
    /// decided.
    fn take(&mut self, ended: &HashMap<usize, Option<f64>>) -> bool {
        while let Some(pair) = self.pairs.get(self.taken)
            && let (Some(subject), Some(reference)) = (ended.get(&pair.subject), ended.get(&pair.reference))
        {
            self.taken += 1;
            if let (Some(subject), Some(reference)) = (subject, reference) {
                self.sequence.push(subject - reference);
            }
            if pair.ends_turn {
                self.sequence.look();
                let rest = self.pairs.len() - self.taken;
                self.out_of_reach = rest > 0 && !self.sequence.can_decide(rest);
            }
            if self.is_settled() {
                return true;
            }
        }
        false
    }
}

/// Key of trials that differ only in their variant.
type Place<'a> = (&'a str, &'a str, std::borrow::Cow<'static, str>, u64, usize);
/// Key of trials that differ only in their seed, repeat and variant.
type Of<'a> = (&'a str, &'a str, std::borrow::Cow<'static, str>);

fn kind(trial: &TrialPlan) -> Of<'_> {
    (&trial.scenario.name, trial.scenario.backend.as_str(), cell(&trial.cell))
}

fn place(trial: &TrialPlan) -> Place<'_> {
    let (scenario, backend, cell) = kind(trial);
    (scenario, backend, cell, trial.seed, trial.repeat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_scenario::{Overrides, load};

    fn plan(variants: &[&str], seeds: u64) -> Vec<Arc<TrialPlan>> {
        let file = concat!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "/scenarios/empty.yaml");
        let variants = variants.iter().map(|&variant| variant.to_owned()).collect();
        let overrides = Overrides { variants, seeds: Some((1..=seeds).collect()), ..Overrides::default() };
        chaosrun_plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials
    }

    fn question(reference: &str) -> StoppingQuestion {
        StoppingQuestion { reference: reference.into(), metric: MetricValue::Pass, margin: 0.1, alpha: 0.05 }
    }

    #[test]
    fn results_out_of_order_are_counted_in_order() {
        let plan = plan(&["noop", "oracle"], 30);
        // The reference always passes. The other variant passes only with the first twelve seeds.
        let verdict = |trial: &TrialPlan| {
            if trial.scenario.variant.name == "noop" || trial.seed <= 12 { Verdict::Pass } else { Verdict::Fail }
        };
        let decided_by = |order: &[usize]| {
            let mut until = EarlyStopping::new(&plan, question("noop")).unwrap();
            for place in order {
                if !until.ended(plan[*place].number, verdict(&plan[*place]), None).is_empty() {
                    break;
                }
            }
            until.answer("oracle", 0).unwrap()
        };
        let straight: Vec<usize> = (0..plan.len()).collect();
        // In this order, the failing trials end first.
        let mut biased = straight.clone();
        biased.sort_by_key(|place| (verdict(&plan[*place]) == Verdict::Pass, *place));
        let found = decided_by(&straight);
        assert_eq!((found.answer, found.difference.unwrap() < -0.1), (AnswerWord::Worse, true), "{found:?}");
        assert!(found.pairs > 20 && found.high < 0.0, "{found:?}");
        assert_eq!(decided_by(&biased), found);
    }

    #[test]
    fn invalid_trials_form_no_pair_and_undecidable_comparisons_are_abandoned() {
        let plan = plan(&["noop", "oracle"], 12);
        let mut until = EarlyStopping::new(&plan, question("noop")).unwrap();
        let mut settled = Vec::new();
        for trial in &plan {
            let verdict = if trial.seed == 2 { Verdict::Invalid } else { Verdict::Pass };
            if !until.ended(trial.number, verdict, None).is_empty() {
                settled.push(trial.seed);
            }
        }
        let found = until.answer("oracle", 0).unwrap();
        assert_eq!(found.answer, AnswerWord::OutOfReach, "{found:?}");
        assert!(settled.len() == 1 && settled[0] < 10 && until.is_decided(), "{settled:?}");
        assert_eq!(found.pairs as u64, settled[0] - 1, "without the one that was invalid");
        assert!(found.more.is_some_and(|more| more > 20), "{found:?}");
    }

    #[test]
    fn undecidable_comparison_is_refused() {
        let plan = plan(&["noop", "oracle"], 2);
        let refused = |question| EarlyStopping::new(&plan, question).unwrap_err();
        assert_eq!(refused(question("noop")), Undecidable::TooFew { pairs: 2, needed: 8 });
        let variants = vec!["noop".to_owned(), "oracle".to_owned()];
        assert_eq!(refused(question("kitchen")), Undecidable::NoReference { reference: "kitchen".into(), variants });
        assert_eq!(refused(StoppingQuestion { metric: MetricValue::ImpactS, ..question("noop") }), Undecidable::Unbounded("impact_s"));
        let alone: Vec<_> = plan.iter().filter(|trial| trial.scenario.variant.name == "noop").cloned().collect();
        assert_eq!(EarlyStopping::new(&alone, question("noop")).unwrap_err(), Undecidable::Alone { reference: "noop".into() });
    }
}
