//! Mean difference of one metric over trial pairs, with its statistical error.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metric::{MetricValue, passed};
use super::pairing::TrialPair;
use chaosrun_stats::clusters::Clustered;
use chaosrun_stats::pairs::Pairs;
use chaosrun_stats::sequential::PairedSequence;
use chaosrun_stats::{Interval, bounded, count, differences};

/// Maximum number of pairs for which confidence intervals are computed by resampling. For more pairs, Student's t distribution is accurate
/// and faster.
const MANY: usize = 200;

/// Confidence level of intervals, and seed of the random resampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Certainty {
    /// Confidence level of intervals, such as 0.95.
    pub confidence: f64,
    pub seed: u64,
}

impl Certainty {
    /// Returns the accepted error rate, 1 - confidence.
    #[must_use]
    pub fn alpha(self) -> f64 {
        1.0 - self.confidence
    }

    /// Returns the confidence level of a two-sided interval that leaves the error rate `alpha` on each side, as one-sided tests need.
    #[must_use]
    pub fn one_sided(self) -> f64 {
        2.0 * self.confidence - 1.0
    }
}

/// Mean difference of a metric, subject minus reference. Only pairs in which both trials have a value are included.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    pub metric: MetricValue,
    pub pairs: usize,
    /// Mean of the metric over the reference's trials.
    pub reference: f64,
    /// Mean of the metric over the subject's trials.
    pub subject: f64,
    pub difference: f64,
    /// Confidence interval of the difference. `None` if the metric is unbounded and there are too few pairs.
    pub interval: Option<Interval>,
    /// Confidence interval with the whole error rate on each side, for one-sided tests.
    pub one_sided: Option<Interval>,
    pub interval_by: &'static str,
    /// P-value: the probability of a difference at least this large between two equal agents.
    pub p: f64,
    pub test: &'static str,
    /// Counts of gained and lost pairs. `None` unless the metric is pass or fail.
    pub split: Option<Pairs>,
    /// Sample variance of the per-pair differences.
    pub variance: f64,
    /// Per-pair differences in the order in which the pairs were completed. `None` unless the run used early stopping.
    #[serde(skip)]
    pub sequence: Option<PairedSequence>,
    /// Per-pair differences of a bounded metric. `None` for pass or fail, and for unbounded metrics.
    #[serde(skip)]
    pub bounded: Option<Vec<f64>>,
}

impl Effect {
    /// Computes the effect of a metric. Returns `None` if no pair has a value on both sides.
    #[must_use]
    pub fn of(metric: MetricValue, pairs: &[TrialPair<'_>], certainty: Certainty) -> Option<Self> {
        let values: Vec<(f64, f64)> =
            pairs.iter().filter_map(|pair| Some((metric.of(pair.reference)?, metric.of(pair.subject)?))).collect();
        let reference = differences::mean(&values.iter().map(|(reference, _)| *reference).collect::<Vec<_>>())?;
        let subject = differences::mean(&values.iter().map(|(_, subject)| *subject).collect::<Vec<_>>())?;
        let each: Vec<f64> = values.iter().map(|(reference, subject)| subject - reference).collect();
        let difference = differences::mean(&each)?;
        let variance = differences::variance(&each).unwrap_or(0.0);
        let base = Self {
            metric,
            pairs: each.len(),
            reference,
            subject,
            difference,
            interval: None,
            one_sided: None,
            interval_by: "Student's t",
            p: 1.0,
            test: "Student's t",
            split: None,
            variance,
            sequence: None,
            bounded: None,
        };
        let Certainty { confidence, seed } = certainty;
        Some(if metric == MetricValue::Pass {
            let split = Pairs::of(pairs.iter().map(|pair| (passed(pair.subject), passed(pair.reference))));
            Self {
                interval: split.interval(confidence),
                one_sided: split.interval(certainty.one_sided()),
                interval_by: "Tango's score",
                p: split.mcnemar(),
                test: "McNemar exact",
                split: Some(split),
                variance: (count(split.gained + split.lost) / count(split.count()) - difference * difference).max(0.0),
                ..base
            }
        } else if metric == MetricValue::Score {
            // A sample of a few pairs may contain no trace of a rare, large loss. The score is bounded, so an interval is possible without
            // an assumption about its distribution.
            let (p, test) = if each.len() <= MANY {
                (differences::permutation(&each, seed), "permutation")
            } else {
                (differences::student_test(&each).unwrap_or(1.0), base.test)
            };
            Self {
                interval: bounded::interval(&each, certainty.alpha() / 2.0),
                one_sided: bounded::interval(&each, certainty.alpha()),
                interval_by: "betting",
                p,
                test,
                bounded: Some(each),
                ..base
            }
        } else if each.len() <= MANY {
            let drawn = |confidence| match each.len() >= fewest(variance, (1.0 - confidence) / 2.0) {
                false => None,
                // Without variance every resample is the same.
                true if variance > 0.0 => differences::bootstrap(&each, confidence, seed),
                true => Some(Interval { low: difference, high: difference }),
            };
            Self {
                interval: drawn(confidence),
                one_sided: drawn(certainty.one_sided()),
                interval_by: "paired bootstrap",
                p: differences::permutation(&each, seed),
                test: "permutation",
                ..base
            }
        } else {
            Self {
                interval: differences::student(&each, confidence),
                one_sided: differences::student(&each, certainty.one_sided()),
                p: differences::student_test(&each).unwrap_or(1.0),
                ..base
            }
        })
    }

    /// Returns the improvement of the subject over the reference. A value above 0 means that the subject is better.
    #[must_use]
    pub fn gain(&self) -> f64 {
        if self.metric.lower_is_better() { -self.difference } else { self.difference }
    }

    /// Returns the interval [`Effect::one_sided`], converted to the improvement of the subject.
    #[must_use]
    pub fn gains(&self) -> Option<Interval> {
        let Interval { low, high } = self.one_sided?;
        Some(if self.metric.lower_is_better() { Interval { low: -high, high: -low } } else { Interval { low, high } })
    }
}

/// Mean difference of a metric that treats the scenarios as a random sample. Its error is computed from the spread between scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Across {
    pub scenarios: usize,
    pub difference: f64,
    pub interval: Interval,
}

impl Across {
    /// Computes the mean difference across scenarios. Returns `None` for fewer than three scenarios, which are too few for a general
    /// statement.
    #[must_use]
    pub fn of(metric: MetricValue, pairs: &[TrialPair<'_>], confidence: f64) -> Option<Self> {
        let mut by_scenario: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for pair in pairs {
            if let (Some(reference), Some(subject)) = (metric.of(pair.reference), metric.of(pair.subject)) {
                by_scenario.entry(pair.subject.scenario.clone()).or_default().push(subject - reference);
            }
        }
        let found = Clustered::of(&by_scenario).filter(|found| found.clusters > 2)?;
        let Interval { low, high } = found.interval(confidence);
        // The mean of a pass rate or a score cannot differ by more than 1.
        let most = if metric.lower_is_better() { f64::INFINITY } else { 1.0 };
        let interval = Interval { low: low.max(-most), high: high.min(most) };
        Some(Self { scenarios: found.clusters, difference: found.mean, interval })
    }
}

/// Returns the smallest number of pairs of an unbounded metric for which an interval is given, at error rate `alpha` per side.
///
/// With variance, the result is the number that a sign test needs if all signs agree. Without variance, the result is the number of pairs
/// that would reveal a change in one pair out of ten.
#[must_use]
pub fn fewest(variance: f64, alpha: f64) -> usize {
    let alike: f64 = if variance > 0.0 { 0.5 } else { 0.9 };
    (1..=MANY).find(|pairs| i32::try_from(*pairs).is_ok_and(|pairs| alike.powi(pairs) <= alpha + 1e-12)).unwrap_or(MANY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::answer::ComparisonAnswer;
    use crate::compare::pairing::pair;
    use crate::compare::sample;

    #[test]
    fn effect_has_test_and_direction() {
        let certainty = Certainty { confidence: 0.95, seed: 1 };
        let (reference, subject) = (sample::side("a", "a", "a", 20, &[]), sample::side("b", "b", "b", 20, &[1, 2, 3, 4, 6, 7, 8]));
        let pairing = pair(&reference, &subject).unwrap();
        let passed = Effect::of(MetricValue::Pass, &pairing.counted, certainty).unwrap();
        assert_eq!((passed.pairs, passed.split.unwrap().lost), (40, 7));
        assert!((passed.difference + 0.175).abs() < 1e-12 && (passed.p - 0.015_625).abs() < 1e-12, "{passed:?}");
        assert!(passed.interval.unwrap().high < 0.0 && passed.gain() < 0.0);
        // A longer impact is worse. A trial that was never repaired has no repair time.
        let impact = Effect::of(MetricValue::ImpactS, &pairing.counted, certainty).unwrap();
        assert!(impact.difference > 0.0 && impact.gain() < 0.0 && impact.gains().unwrap().high < 0.0, "{impact:?}");
        let repair = Effect::of(MetricValue::RepairS, &pairing.counted, certainty).unwrap();
        assert_eq!((repair.pairs, repair.p), (33, 1.0));
        assert_eq!(Effect::of(MetricValue::DiagnoseS, &pairing.counted, certainty), None);
    }

    /// Checks that a few equal pairs do not rule out a loss, because they may hide a rare loss.
    #[test]
    fn equal_pairs_rule_a_loss_out_when_there_are_enough() {
        let certainty = Certainty { confidence: 0.95, seed: 1 };
        let answer = |metric: MetricValue, seeds: u64| {
            let (reference, subject) = (sample::side("a", "a", "a", seeds, &[]), sample::side("b", "b", "b", seeds, &[]));
            let pairing = pair(&reference, &subject).unwrap();
            let mut counted = pairing.counted;
            if metric != MetricValue::Score {
                // Uses fewer pairs for a metric without bounds.
                counted.truncate(usize::try_from(seeds).unwrap());
            }
            let effect = Effect::of(metric, &counted, certainty).unwrap();
            ComparisonAnswer::of(&effect, effect.p, metric.default_margin(), certainty)
        };
        let inconclusive = |more| ComparisonAnswer::Inconclusive { more: Some(more) };
        assert_eq!(
            [5, 23, 24].map(|seeds| answer(MetricValue::Score, seeds)),
            [inconclusive(38), inconclusive(2), ComparisonAnswer::NoDifference]
        );
        assert_eq!(
            [5, 28, 29].map(|seeds| answer(MetricValue::ImpactS, seeds)),
            [inconclusive(24), inconclusive(1), ComparisonAnswer::NoDifference]
        );
    }
}
