//! The difference of one metric over pairs, with its error: never a difference alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metric::{Metric, passed};
use super::pairing::Pair;
use crate::stats::clusters::Clustered;
use crate::stats::pairs::Pairs;
use crate::stats::sequential::Sequence;
use crate::stats::{Interval, bounded, count, differences};

/// Of more pairs than these, means are spread as Student says: drawing again would only take longer.
const MANY: usize = 200;

/// How sure to be, and the seed of whatever is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Certainty {
    /// Of an interval: 0.95.
    pub confidence: f64,
    pub seed: u64,
}

impl Certainty {
    /// How often an error is allowed.
    #[must_use]
    pub fn alpha(self) -> f64 {
        1.0 - self.confidence
    }

    /// An interval of this confidence leaves `alpha` on each side: what a test in one direction asks for.
    #[must_use]
    pub fn one_sided(self) -> f64 {
        2.0 * self.confidence - 1.0
    }
}

/// Subject less reference, over pairs in which both have such a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    pub metric: Metric,
    pub pairs: usize,
    /// Means.
    pub reference: f64,
    pub subject: f64,
    pub difference: f64,
    /// None of too few pairs of what has no bounds.
    pub interval: Option<Interval>,
    /// The same with the whole error on each side.
    pub one_sided: Option<Interval>,
    pub interval_by: &'static str,
    /// How often two equal agents would differ as much.
    pub p: f64,
    pub test: &'static str,
    /// How the pairs fell, of what is passed or not.
    pub split: Option<Pairs>,
    /// Of the differences.
    pub variance: f64,
    /// How they came in, where what was seen has decided when to stop.
    #[serde(skip)]
    pub sequence: Option<Sequence>,
    /// The differences of what has bounds and is more than passed or not.
    #[serde(skip)]
    pub bounded: Option<Vec<f64>>,
}

impl Effect {
    /// None when no pair has such a number on both sides.
    #[must_use]
    pub fn of(metric: Metric, pairs: &[Pair<'_>], certainty: Certainty) -> Option<Self> {
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
        Some(if metric == Metric::Pass {
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
        } else if metric == Metric::Score {
            // A large loss that is rare is in no draw of a few pairs: what has bounds needs no guess of how it is spread.
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
                // Of what never varies every draw is the same.
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

    /// Above 0 = the subject is better.
    #[must_use]
    pub fn gain(&self) -> f64 {
        if self.metric.lower_is_better() { -self.difference } else { self.difference }
    }

    /// [`Effect::one_sided`] seen so.
    #[must_use]
    pub fn gains(&self) -> Option<Interval> {
        let Interval { low, high } = self.one_sided?;
        Some(if self.metric.lower_is_better() { Interval { low: -high, high: -low } } else { Interval { low, high } })
    }
}

/// The same difference where scenarios are a sample of others like them: its error is that between scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Across {
    pub scenarios: usize,
    pub difference: f64,
    pub interval: Interval,
}

impl Across {
    /// None of fewer than three scenarios: two say nothing of a third.
    #[must_use]
    pub fn of(metric: Metric, pairs: &[Pair<'_>], confidence: f64) -> Option<Self> {
        let mut by_scenario: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for pair in pairs {
            if let (Some(reference), Some(subject)) = (metric.of(pair.reference), metric.of(pair.subject)) {
                by_scenario.entry(pair.subject.scenario.clone()).or_default().push(subject - reference);
            }
        }
        let found = Clustered::of(&by_scenario).filter(|found| found.clusters > 2)?;
        let Interval { low, high } = found.interval(confidence);
        // No share differs by more than all.
        let most = if metric.lower_is_better() { f64::INFINITY } else { 1.0 };
        let interval = Interval { low: low.max(-most), high: high.min(most) };
        Some(Self { scenarios: found.clusters, difference: found.mean, interval })
    }
}

/// The fewest pairs of what has no bounds that say anything when each side may be wrong this often: as many as a sign test takes when all signs are
/// alike. Of what has never varied, so many that it would have been seen to if one pair in ten did.
#[must_use]
pub fn fewest(variance: f64, alpha: f64) -> usize {
    let alike: f64 = if variance > 0.0 { 0.5 } else { 0.9 };
    (1..=MANY).find(|pairs| i32::try_from(*pairs).is_ok_and(|pairs| alike.powi(pairs) <= alpha + 1e-12)).unwrap_or(MANY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::answer::Answer;
    use crate::compare::pairing::pair;
    use crate::compare::sample;

    #[test]
    fn a_difference_has_its_test_and_its_direction() {
        let certainty = Certainty { confidence: 0.95, seed: 1 };
        let (reference, subject) = (sample::side("a", "a", "a", 20, &[]), sample::side("b", "b", "b", 20, &[1, 2, 3, 4, 6, 7, 8]));
        let pairing = pair(&reference, &subject).unwrap();
        let passed = Effect::of(Metric::Pass, &pairing.counted, certainty).unwrap();
        assert_eq!((passed.pairs, passed.split.unwrap().lost), (40, 7));
        assert!((passed.difference + 0.175).abs() < 1e-12 && (passed.p - 0.015_625).abs() < 1e-12, "{passed:?}");
        assert!(passed.interval.unwrap().high < 0.0 && passed.gain() < 0.0);
        // Longer is worse, and what was never repaired has no time.
        let hurt = Effect::of(Metric::HurtS, &pairing.counted, certainty).unwrap();
        assert!(hurt.difference > 0.0 && hurt.gain() < 0.0 && hurt.gains().unwrap().high < 0.0, "{hurt:?}");
        let repair = Effect::of(Metric::RepairS, &pairing.counted, certainty).unwrap();
        assert_eq!((repair.pairs, repair.p), (33, 1.0));
        assert_eq!(Effect::of(Metric::DiagnoseS, &pairing.counted, certainty), None);
    }

    /// A loss that is rare has not been seen in a few pairs: that all are alike is no certainty.
    #[test]
    fn equal_pairs_rule_a_loss_out_when_there_are_enough() {
        let certainty = Certainty { confidence: 0.95, seed: 1 };
        let answer = |metric: Metric, seeds: u64| {
            let (reference, subject) = (sample::side("a", "a", "a", seeds, &[]), sample::side("b", "b", "b", seeds, &[]));
            let pairing = pair(&reference, &subject).unwrap();
            let mut counted = pairing.counted;
            if metric != Metric::Score {
                // Of what has no bounds.
                counted.truncate(usize::try_from(seeds).unwrap());
            }
            let effect = Effect::of(metric, &counted, certainty).unwrap();
            Answer::of(&effect, effect.p, metric.default_margin(), certainty)
        };
        let inconclusive = |more| Answer::Inconclusive { more: Some(more) };
        assert_eq!([5, 23, 24].map(|seeds| answer(Metric::Score, seeds)), [inconclusive(38), inconclusive(2), Answer::NoDifference]);
        assert_eq!([5, 28, 29].map(|seeds| answer(Metric::HurtS, seeds)), [inconclusive(24), inconclusive(1), Answer::NoDifference]);
    }
}
