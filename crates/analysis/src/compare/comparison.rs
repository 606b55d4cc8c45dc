//! Whole comparison: one reference, one or several subjects, their scorecards, and the effects over their pairs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::Conclusion;
use super::changes::{self, VerdictChange};
use super::early;
use super::effect::{Across, Certainty, Effect};
use super::metric::MetricValue;
use super::pairing::{LeftOut, Pairing, TrialPair, Unpaired, pair};
use super::scorecard::Scorecard;
use super::side::Side;
use super::yardstick::{self, IncomparableSides};
use chaosrun_event::Sought;
use chaosrun_stats::holm;
use chaosrun_stats::proportion::Proportion;

/// Options of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComparisonOptions {
    pub metric: MetricValue,
    /// Non-inferiority margin in the unit of the metric. `None` selects the default margin of the metric.
    pub margin: Option<f64>,
    pub certainty: Certainty,
    /// True to compare trials even if their yardsticks differ.
    pub across_yardsticks: bool,
}

impl ComparisonOptions {
    /// Returns the non-inferiority margin for a metric.
    fn margin_of(&self, metric: MetricValue) -> f64 {
        self.margin.filter(|_| metric == self.metric).unwrap_or_else(|| metric.default_margin())
    }
}

/// Reason why the sides cannot be compared.
#[derive(Debug, Clone, PartialEq)]
pub enum ComparisonError {
    Yardsticks(IncomparableSides),
    Unpaired(Unpaired),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub metric: MetricValue,
    #[serde(flatten)]
    pub certainty: Certainty,
    pub reference: Scorecard,
    pub subjects: Vec<Compared>,
    /// Mismatches of yardsticks that the user accepted by an option.
    pub across_yardsticks: Vec<IncomparableSides>,
    /// Early-stopping target of one of the sides. `None` if neither side has one. The error rates then remain valid after any number of
    /// interim analyses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early: Option<Sought>,
}

/// Comparison of one subject with the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub scorecard: Scorecard,
    /// Non-inferiority margin in the unit of the metric.
    pub margin: f64,
    /// Number of pairs in which both trials count.
    pub pairs: usize,
    pub left_out: LeftOut,
    /// Conclusion of the comparison. `None` if no pair has a value of the metric.
    pub conclusion: Option<Conclusion>,
    /// P-value, corrected for the number of subjects.
    pub p_adjusted: Option<f64>,
    /// Effects on all metrics, in the order of a scorecard.
    pub effects: Vec<Effect>,
    /// Effect on the compared metric that treats the scenarios as a random sample. `None` for fewer than three scenarios.
    pub across_scenarios: Option<Across>,
    pub scenarios: Vec<Row>,
    pub changes: Vec<VerdictChange>,
}

/// Result of the comparison in one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub scenario: String,
    pub backend: String,
    pub pairs: usize,
    pub reference: Proportion,
    pub subject: Proportion,
    /// Effect on the compared metric. `None` if no pair has a value of the metric.
    pub effect: Option<Effect>,
    /// P-value, corrected for the number of scenarios.
    pub p_adjusted: Option<f64>,
}

impl Comparison {
    /// Compares one or several subjects with a reference.
    ///
    /// # Errors
    ///
    /// The sides have different yardsticks, or no common trials.
    pub fn of(reference: &Side, subjects: &[Side], question: ComparisonOptions) -> Result<Self, ComparisonError> {
        let mut across_yardsticks = Vec::new();
        for subject in subjects {
            if let Some(refused) = yardstick::refused(reference, subject) {
                if !question.across_yardsticks {
                    return Err(ComparisonError::Yardsticks(refused));
                }
                across_yardsticks.push(refused);
            }
        }
        let pairings =
            subjects.iter().map(|subject| pair(reference, subject)).collect::<Result<Vec<_>, _>>().map_err(ComparisonError::Unpaired)?;
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
        question: ComparisonOptions,
    ) -> Self {
        let ComparisonOptions { metric, certainty, .. } = question;
        let margin = question.margin_of(metric);
        Self {
            scorecard: Scorecard::of(side, certainty.confidence),
            margin,
            pairs: pairing.counted.len(),
            left_out: pairing.left_out.clone(),
            conclusion: effect.as_ref().map(|(effect, p)| Conclusion::of(effect, *p, margin, certainty, &side.name, comparisons)),
            p_adjusted: effect.map(|(_, p)| p),
            effects,
            // If a run stopped early, the number of pairs per scenario depends on the results. This error would then not be valid.
            across_scenarios: if early { None } else { Across::of(metric, &pairing.counted, certainty.confidence) },
            scenarios: rows(&pairing.counted, question, early),
            changes: changes::of(&pairing.finished),
        }
    }

    #[must_use]
    pub fn effect(&self, metric: MetricValue) -> Option<&Effect> {
        self.effects.iter().find(|effect| effect.metric == metric)
    }
}

fn effects(pairs: &[TrialPair<'_>], certainty: Certainty) -> Vec<Effect> {
    MetricValue::ALL.into_iter().filter_map(|metric| Effect::of(metric, pairs, certainty)).collect()
}

/// Returns the p-values that are present, corrected by Holm's method.
fn corrected(probabilities: impl Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
    let probabilities: Vec<Option<f64>> = probabilities.collect();
    let mut adjusted = holm(&probabilities.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
    probabilities.iter().map(|p| p.and_then(|_| adjusted.next())).collect()
}

fn rows(pairs: &[TrialPair<'_>], question: ComparisonOptions, early: bool) -> Vec<Row> {
    let ComparisonOptions { metric, certainty, .. } = question;
    let effect = |pairs: &[TrialPair<'_>]| {
        let found = Effect::of(metric, pairs, certainty)?;
        Some(if early { early::held(found, pairs, question.margin_of(metric), certainty, 1, 1) } else { found })
    };
    let mut by_scenario: BTreeMap<(&str, &str), Vec<TrialPair<'_>>> = BTreeMap::new();
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
    use crate::compare::answer::ComparisonAnswer;
    use crate::compare::changes::Direction;
    use crate::compare::sample;

    fn question(metric: MetricValue) -> ComparisonOptions {
        ComparisonOptions { metric, margin: None, certainty: Certainty { confidence: 0.95, seed: 1 }, across_yardsticks: false }
    }

    #[test]
    fn regression_is_found_and_located() {
        let (reference, subject) = (sample::side("before", "a", "a", 20, &[]), sample::side("after", "a", "b", 20, &[1, 2, 3, 4, 6, 7, 8]));
        let comparison = Comparison::of(&reference, std::slice::from_ref(&subject), question(MetricValue::Pass)).unwrap();
        let compared = &comparison.subjects[0];
        assert_eq!(compared.conclusion.as_ref().unwrap().answer, ComparisonAnswer::Worse);
        let adjusted: Vec<Option<f64>> = compared.scenarios.iter().map(|row| row.p_adjusted).collect();
        assert_eq!(adjusted.iter().flatten().map(|p| format!("{p:.6}")).collect::<Vec<_>>(), ["0.031250", "1.000000"]);
        assert_eq!(compared.changes.len(), 7);
        assert!(compared.changes.iter().all(|change| change.direction == Direction::Worse));
        assert_eq!(compared.changes[0].shows(), ["chaosrun show t-ak0001", "chaosrun show t-bk0001"]);
    }

    #[test]
    fn several_subjects_share_one_error_rate() {
        let reference = sample::side("a", "a", "a", 20, &[]);
        let others = [sample::side("b", "b", "b", 20, &[1, 2, 3, 4, 6, 7]), sample::side("c", "c", "c", 20, &[])];
        let comparison = Comparison::of(&reference, &others, question(MetricValue::Pass)).unwrap();
        assert!((comparison.subjects[0].p_adjusted.unwrap() - 0.0625).abs() < 1e-9, "six flips of one comparison of two");
        assert!(matches!(comparison.subjects[0].conclusion.as_ref().unwrap().answer, ComparisonAnswer::Inconclusive { .. }));
    }

    #[test]
    fn different_yardsticks_are_compared_only_on_request() {
        let (reference, mut subject) = (sample::side("a", "a", "a", 2, &[]), sample::side("b", "b", "b", 2, &[]));
        subject.subjects.iter_mut().for_each(|outcome| outcome.yardstick = "other".into());
        let subjects = [subject];
        assert!(matches!(Comparison::of(&reference, &subjects, question(MetricValue::Pass)), Err(ComparisonError::Yardsticks(_))));
        let told = ComparisonOptions { across_yardsticks: true, ..question(MetricValue::Pass) };
        assert_eq!(Comparison::of(&reference, &subjects, told).unwrap().across_yardsticks.len(), 1);
    }
}
