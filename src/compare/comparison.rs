//! The whole of a comparison: one reference, one subject or several, what they are and what their pairs show.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::Conclusion;
use super::changes::{self, Change};
use super::early;
use super::effect::{Across, Certainty, Effect};
use super::metric::Metric;
use super::pairing::{LeftOut, Pair, Pairing, Unpaired, pair};
use super::scorecard::Scorecard;
use super::side::Side;
use super::yardstick::{self, Refused};
use crate::event::Sought;
use crate::stats::holm;
use crate::stats::proportion::Proportion;

/// What is asked of the sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    pub metric: Metric,
    /// None: the metric's own.
    pub margin: Option<f64>,
    pub certainty: Certainty,
    /// Compare what was measured differently, too.
    pub across_yardsticks: bool,
}

impl Question {
    /// What is taken for no loss of that metric.
    fn margin_of(&self, metric: Metric) -> f64 {
        self.margin.filter(|_| metric == self.metric).unwrap_or_else(|| metric.default_margin())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    Yardsticks(Refused),
    Unpaired(Unpaired),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub metric: Metric,
    #[serde(flatten)]
    pub certainty: Certainty,
    pub reference: Scorecard,
    pub subjects: Vec<Compared>,
    /// What was compared although it was measured differently.
    pub across_yardsticks: Vec<Refused>,
    /// A side was to stop as soon as this was decided: errors hold however often one looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early: Option<Sought>,
}

/// One subject against the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub scorecard: Scorecard,
    /// What is taken for no loss.
    pub margin: f64,
    /// Pairs that count.
    pub pairs: usize,
    pub left_out: LeftOut,
    /// None when no pair has the metric.
    pub conclusion: Option<Conclusion>,
    /// Corrected for as many subjects as were compared.
    pub p_adjusted: Option<f64>,
    /// By metric, in the order of a scorecard.
    pub effects: Vec<Effect>,
    /// Of the metric, where scenarios are a sample.
    pub across_scenarios: Option<Across>,
    pub scenarios: Vec<Row>,
    pub changes: Vec<Change>,
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub scenario: String,
    pub backend: String,
    pub pairs: usize,
    pub reference: Proportion,
    pub subject: Proportion,
    /// Of the metric.
    pub effect: Option<Effect>,
    /// Corrected for as many scenarios as there are.
    pub p_adjusted: Option<f64>,
}

impl Comparison {
    /// # Errors
    /// Sides were measured differently, or have nothing in common.
    pub fn of(reference: &Side, subjects: &[Side], question: Question) -> Result<Self, Refusal> {
        let mut across_yardsticks = Vec::new();
        for subject in subjects {
            if let Some(refused) = yardstick::refused(reference, subject) {
                if !question.across_yardsticks {
                    return Err(Refusal::Yardsticks(refused));
                }
                across_yardsticks.push(refused);
            }
        }
        let pairings = subjects.iter().map(|subject| pair(reference, subject)).collect::<Result<Vec<_>, _>>().map_err(Refusal::Unpaired)?;
        let early = early::sought(std::iter::once(reference).chain(subjects));
        let held = |pairing: &Pairing<'_>| {
            let found = effects(&pairing.counted, question.certainty);
            let Some(early) = &early else { return found };
            let comparisons = early.comparisons.max(subjects.len());
            let held = |one: Effect| {
                let margin = question.margin_of(one.metric);
                early::held(one, &pairing.finished, margin, question.certainty, comparisons, subjects.len())
            };
            found.into_iter().map(held).collect()
        };
        let effects: Vec<Vec<Effect>> = pairings.iter().map(held).collect();
        let of_metric = |effects: &[Effect]| effects.iter().find(|effect| effect.metric == question.metric).cloned();
        let adjusted = corrected(effects.iter().map(|effects| of_metric(effects).map(|effect| effect.p)));
        let compared = subjects.iter().zip(pairings).zip(effects).zip(adjusted).map(|(((subject, pairing), effects), p)| {
            let effect = of_metric(&effects);
            Compared::of(subject, &pairing, effects, effect.zip(p), (subjects.len(), early.is_some()), question)
        });
        Ok(Self {
            metric: question.metric,
            certainty: question.certainty,
            reference: Scorecard::of(reference, question.certainty.confidence),
            subjects: compared.collect(),
            across_yardsticks,
            early,
        })
    }
}

impl Compared {
    fn of(
        side: &Side,
        pairing: &Pairing<'_>,
        effects: Vec<Effect>,
        effect: Option<(Effect, f64)>,
        (comparisons, early): (usize, bool),
        question: Question,
    ) -> Self {
        let Question { metric, certainty, .. } = question;
        let margin = question.margin_of(metric);
        Self {
            scorecard: Scorecard::of(side, certainty.confidence),
            margin,
            pairs: pairing.counted.len(),
            left_out: pairing.left_out.clone(),
            conclusion: effect.as_ref().map(|(effect, p)| Conclusion::of(effect, *p, margin, certainty, &side.name, comparisons)),
            p_adjusted: effect.map(|(_, p)| p),
            effects,
            // How many pairs each scenario has was decided by what they came to.
            across_scenarios: if early { None } else { Across::of(metric, &pairing.counted, certainty.confidence) },
            scenarios: rows(&pairing.counted, question, early),
            changes: changes::of(&pairing.finished),
        }
    }

    #[must_use]
    pub fn effect(&self, metric: Metric) -> Option<&Effect> {
        self.effects.iter().find(|effect| effect.metric == metric)
    }
}

fn effects(pairs: &[Pair<'_>], certainty: Certainty) -> Vec<Effect> {
    Metric::ALL.into_iter().filter_map(|metric| Effect::of(metric, pairs, certainty)).collect()
}

/// By Holm, those that are there.
fn corrected(probabilities: impl Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
    let probabilities: Vec<Option<f64>> = probabilities.collect();
    let mut adjusted = holm(&probabilities.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
    probabilities.iter().map(|p| p.and_then(|_| adjusted.next())).collect()
}

fn rows(pairs: &[Pair<'_>], question: Question, early: bool) -> Vec<Row> {
    let Question { metric, certainty, .. } = question;
    let effect = |pairs: &[Pair<'_>]| {
        let found = Effect::of(metric, pairs, certainty)?;
        Some(if early { early::held(found, pairs, question.margin_of(metric), certainty, 1, 1) } else { found })
    };
    let mut by_scenario: BTreeMap<(&str, &str), Vec<Pair<'_>>> = BTreeMap::new();
    for pair in pairs {
        by_scenario.entry((&pair.subject.scenario, &pair.subject.backend)).or_default().push(*pair);
    }
    let passed = super::metric::passed;
    let mut rows: Vec<Row> = by_scenario
        .into_iter()
        .map(|((scenario, backend), pairs)| Row {
            scenario: scenario.to_owned(),
            backend: backend.to_owned(),
            pairs: pairs.len(),
            reference: Proportion::of(pairs.iter().map(|pair| passed(pair.reference))),
            subject: Proportion::of(pairs.iter().map(|pair| passed(pair.subject))),
            effect: effect(&pairs),
            p_adjusted: None,
        })
        .collect();
    let adjusted = corrected(rows.iter().map(|row| row.effect.as_ref().map(|effect| effect.p)));
    rows.iter_mut().zip(adjusted).for_each(|(row, p)| row.p_adjusted = p);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::answer::Answer;
    use crate::compare::changes::Direction;
    use crate::compare::sample;

    fn question(metric: Metric) -> Question {
        Question { metric, margin: None, certainty: Certainty { confidence: 0.95, seed: 1 }, across_yardsticks: false }
    }

    #[test]
    fn a_regression_is_found_and_where_it_is() {
        let (reference, subject) = (sample::side("before", "a", "a", 20, &[]), sample::side("after", "a", "b", 20, &[1, 2, 3, 4, 6, 7, 8]));
        let comparison = Comparison::of(&reference, std::slice::from_ref(&subject), question(Metric::Pass)).unwrap();
        let compared = &comparison.subjects[0];
        assert_eq!(compared.conclusion.as_ref().unwrap().answer, Answer::Worse);
        let adjusted: Vec<Option<f64>> = compared.scenarios.iter().map(|row| row.p_adjusted).collect();
        assert_eq!(adjusted.iter().flatten().map(|p| format!("{p:.6}")).collect::<Vec<_>>(), ["0.031250", "1.000000"]);
        assert_eq!(compared.changes.len(), 7);
        assert!(compared.changes.iter().all(|change| change.direction == Direction::Worse));
        assert_eq!(compared.changes[0].shows(), ["chaosrun show t-ak0001", "chaosrun show t-bk0001"]);
    }

    #[test]
    fn several_subjects_share_one_error() {
        let reference = sample::side("a", "a", "a", 20, &[]);
        let others = [sample::side("b", "b", "b", 20, &[1, 2, 3, 4, 6, 7]), sample::side("c", "c", "c", 20, &[])];
        let comparison = Comparison::of(&reference, &others, question(Metric::Pass)).unwrap();
        assert!((comparison.subjects[0].p_adjusted.unwrap() - 0.0625).abs() < 1e-9, "six flips of one comparison of two");
        assert!(matches!(comparison.subjects[0].conclusion.as_ref().unwrap().answer, Answer::Inconclusive { .. }));
    }

    #[test]
    fn other_yardsticks_are_compared_only_when_told() {
        let (reference, mut subject) = (sample::side("a", "a", "a", 2, &[]), sample::side("b", "b", "b", 2, &[]));
        subject.subjects.iter_mut().for_each(|outcome| outcome.yardstick = "other".into());
        let subjects = [subject];
        assert!(matches!(Comparison::of(&reference, &subjects, question(Metric::Pass)), Err(Refusal::Yardsticks(_))));
        let told = Question { across_yardsticks: true, ..question(Metric::Pass) };
        assert_eq!(Comparison::of(&reference, &subjects, told).unwrap().across_yardsticks.len(), 1);
    }
}
