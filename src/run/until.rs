//! `--until decided`: which comparisons a plan can decide, how far they are, and which trials they still need. Pure.
//!
//! Pairs are taken in the order of the plan: a later one waits for all before it, however many trials run at once. So what is decided, and
//! after how many pairs, is the same as if they had run one after the other; that quick trials end first is no bias.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compare::metric::{Metric, rounded};
use crate::event::{AnswerWord, Answered, Sought, TrialRole, Verdict};
use crate::plan::TrialPlan;
use crate::plan::missing::cell;
use crate::stats::power::MOST;
use crate::stats::sequential::{Decision, Sequence, turns};

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub reference: String,
    pub metric: Metric,
    /// Above 0, below 1.
    pub margin: f64,
    /// How often any of all answers may be wrong.
    pub alpha: f64,
}

/// Why a plan decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecidable {
    #[error("the variant `{reference}`, with which the others are to be compared, is not judged here")]
    NoReference { reference: String, variants: Vec<String> },
    #[error("only `{reference}` is judged here, and there is nothing to compare it with")]
    Alone { reference: String },
    #[error("`{0}` has no bound, and what has none can be decided at no early moment")]
    Unbounded(&'static str),
    #[error("{pairs} pairs decide nothing, however they fall: it takes {needed} at least")]
    TooFew { pairs: usize, needed: usize },
}

/// All comparisons of a run.
#[derive(Debug, Clone)]
pub struct Until {
    question: Question,
    comparisons: Vec<Comparison>,
    /// What trials came to, by their number. None: it does not count.
    ended: HashMap<usize, Option<f64>>,
}

/// A variant against the reference.
#[derive(Debug, Clone)]
struct Comparison {
    variant: String,
    /// In the order of the plan.
    pairs: Vec<Pair>,
    /// Of them, those that were taken.
    taken: usize,
    sequence: Sequence,
    /// No outcome of what is left could decide it.
    out_of_reach: bool,
}

/// Two trials by their numbers.
#[derive(Debug, Clone, Copy)]
struct Pair {
    subject: usize,
    reference: usize,
    /// After it every scenario has had its turn.
    ends_turn: bool,
}

impl Until {
    /// `plan`: all trials, those that are recorded already included.
    ///
    /// # Errors
    /// The plan cannot decide what is asked.
    pub fn new(plan: &[Arc<TrialPlan>], question: Question) -> Result<Self, Undecidable> {
        if !matches!(question.metric, Metric::Pass | Metric::Score) {
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
            Comparison { variant, pairs, taken: 0, sequence: Sequence::new(alpha, question.margin), out_of_reach: false }
        };
        let comparisons: Vec<Comparison> = variants.into_iter().map(compared).collect();
        let pairs = comparisons.iter().map(|comparison| comparison.pairs.len()).max().unwrap_or_default();
        let fresh = Sequence::new(alpha, question.margin);
        if !fresh.can_decide(pairs) {
            let needed = (pairs..=MOST).find(|more| fresh.can_decide(*more)).unwrap_or(MOST);
            return Err(Undecidable::TooFew { pairs, needed });
        }
        Ok(Self { comparisons, question, ended: HashMap::new() })
    }

    /// As a run tells what it is to decide.
    #[must_use]
    pub fn sought(&self) -> Sought {
        let Question { reference, metric, margin, alpha } = &self.question;
        let (metric, comparisons) = (metric.as_str().to_owned(), self.comparisons.len());
        Sought { reference: reference.clone(), metric, margin: *margin, alpha: *alpha, comparisons }
    }

    /// A trial of the plan has come to its last end. The variants that are decided by it, or that nothing can decide any more.
    pub fn ended(&mut self, number: usize, verdict: Verdict, score: Option<f64>) -> Vec<String> {
        let value = match (verdict, self.question.metric) {
            (Verdict::Invalid, _) => None,
            (_, Metric::Score) => score.map(rounded),
            (verdict, _) => Some(if verdict == Verdict::Pass { 1.0 } else { 0.0 }),
        };
        self.ended.insert(number, value);
        let Self { comparisons, ended, .. } = self;
        let open = comparisons.iter_mut().filter(|comparison| !comparison.is_settled());
        open.filter_map(|comparison| comparison.take(ended).then(|| comparison.variant.clone())).collect()
    }

    /// The variants of which nothing more is to be known.
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

    /// What is known of a variant.
    #[must_use]
    pub fn answer(&self, variant: &str, not_needed: usize) -> Option<Answered> {
        self.comparisons.iter().find(|comparison| comparison.variant == variant).map(|comparison| self.answered(comparison, not_needed))
    }

    /// What is known of those that are not decided.
    #[must_use]
    pub fn open(&self) -> Vec<Answered> {
        self.comparisons.iter().filter(|one| !one.is_settled()).map(|comparison| self.answered(comparison, 0)).collect()
    }

    fn answered(&self, comparison: &Comparison, not_needed: usize) -> Answered {
        let Comparison { variant, sequence, .. } = comparison;
        let interval = sequence.interval();
        let answer = match sequence.decision() {
            Some(Decision::Better) => AnswerWord::Better,
            Some(Decision::Worse) => AnswerWord::Worse,
            Some(Decision::NotWorse) => AnswerWord::NotWorse,
            None if comparison.out_of_reach => AnswerWord::OutOfReach,
            None => AnswerWord::Inconclusive,
        };
        let more = if sequence.decision().is_none() { sequence.more_pairs(MOST) } else { None };
        let sought = self.sought();
        #[expect(clippy::cast_precision_loss, reason = "a few variants")]
        let confidence = 1.0 - sought.alpha / sought.comparisons as f64;
        Answered {
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

    /// Takes the pairs whose turn it is. Whether it is settled now.
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

/// What differs in nothing but who is judged.
type Place<'a> = (&'a str, &'a str, std::borrow::Cow<'static, str>, u64, usize);
/// What is repeated with other seeds.
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
    use crate::scenario::{Overrides, load};

    fn plan(variants: &[&str], seeds: u64) -> Vec<Arc<TrialPlan>> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/empty.yaml");
        let variants = variants.iter().map(|&variant| variant.to_owned()).collect();
        let overrides = Overrides { variants, seeds: Some((1..=seeds).collect()), ..Overrides::default() };
        crate::plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials
    }

    fn question(reference: &str) -> Question {
        Question { reference: reference.into(), metric: Metric::Pass, margin: 0.1, alpha: 0.05 }
    }

    #[test]
    fn what_arrives_out_of_order_is_taken_in_order() {
        let plan = plan(&["noop", "oracle"], 30);
        // The reference always passes, the other fails on all seeds but the first twelve.
        let verdict = |trial: &TrialPlan| {
            if trial.scenario.variant.name == "noop" || trial.seed <= 12 { Verdict::Pass } else { Verdict::Fail }
        };
        let decided_by = |order: &[usize]| {
            let mut until = Until::new(&plan, question("noop")).unwrap();
            for place in order {
                if !until.ended(plan[*place].number, verdict(&plan[*place]), None).is_empty() {
                    break;
                }
            }
            until.answer("oracle", 0).unwrap()
        };
        let straight: Vec<usize> = (0..plan.len()).collect();
        // Those that fail end first.
        let mut biased = straight.clone();
        biased.sort_by_key(|place| (verdict(&plan[*place]) == Verdict::Pass, *place));
        let found = decided_by(&straight);
        assert_eq!((found.answer, found.difference.unwrap() < -0.1), (AnswerWord::Worse, true), "{found:?}");
        assert!(found.pairs > 20 && found.high < 0.0, "{found:?}");
        assert_eq!(decided_by(&biased), found);
    }

    #[test]
    fn invalid_trials_are_no_pair_and_what_cannot_be_decided_any_more_is_given_up() {
        let plan = plan(&["noop", "oracle"], 12);
        let mut until = Until::new(&plan, question("noop")).unwrap();
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
    fn what_a_plan_cannot_decide_is_refused() {
        let plan = plan(&["noop", "oracle"], 2);
        let refused = |question| Until::new(&plan, question).unwrap_err();
        assert_eq!(refused(question("noop")), Undecidable::TooFew { pairs: 2, needed: 8 });
        let variants = vec!["noop".to_owned(), "oracle".to_owned()];
        assert_eq!(refused(question("kitchen")), Undecidable::NoReference { reference: "kitchen".into(), variants });
        assert_eq!(refused(Question { metric: Metric::HurtS, ..question("noop") }), Undecidable::Unbounded("hurt_s"));
        let alone: Vec<_> = plan.iter().filter(|trial| trial.scenario.variant.name == "noop").cloned().collect();
        assert_eq!(Until::new(&alone, question("noop")).unwrap_err(), Undecidable::Alone { reference: "noop".into() });
    }
}
