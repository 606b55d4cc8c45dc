//! The difference of one metric over pairs, with its error: never a difference alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metric::{Metric, passed};
use super::pairing::Pair;
use crate::stats::clusters::Clustered;
use crate::stats::pairs::Pairs;
use crate::stats::sequential::Sequence;
use crate::stats::{Interval, count, differences};

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
    /// None of a single pair.
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
        } else if each.len() <= MANY {
            // Of what never varies every draw is the same. So few that not even all signs alike could say it show nothing.
            let drawn = |confidence| match (enough(each.len(), confidence), variance > 0.0) {
                (false, _) => None,
                (true, false) => Some(Interval { low: difference, high: difference }),
                _ => differences::bootstrap(&each, confidence, seed),
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

/// Whether a sign test of so many pairs could reach that level at all.
fn enough(pairs: usize, confidence: f64) -> bool {
    let doublings = i32::try_from(pairs).unwrap_or(i32::MAX).saturating_sub(1);
    0.5_f64.powi(doublings) <= 1.0 - confidence + 1e-12
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
