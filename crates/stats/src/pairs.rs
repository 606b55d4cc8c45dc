//! Tests and intervals for pass/fail outcomes of two agents on the same seeds. Only seeds with different outcomes show a difference.

use statrs::distribution::{Binomial, DiscreteCDF};

use super::{Interval, count, normal_above, normal_quantile};

/// Counts of trial pairs with the same seed, by the outcomes of both trials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pairs {
    pub both: usize,
    /// Number of pairs that the subject passed and the reference failed.
    pub gained: usize,
    /// Number of pairs that the reference passed and the subject failed.
    pub lost: usize,
    pub neither: usize,
}

impl Pairs {
    /// Counts pairs of outcomes. The first value is true if the subject passed, the second if the reference passed.
    #[must_use]
    pub fn of(outcomes: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut pairs = Self::default();
        for outcome in outcomes {
            *match outcome {
                (true, true) => &mut pairs.both,
                (true, false) => &mut pairs.gained,
                (false, true) => &mut pairs.lost,
                (false, false) => &mut pairs.neither,
            } += 1;
        }
        pairs
    }

    /// Returns the counts after one more pair. `subject` and `reference` are true for a pass.
    #[must_use]
    pub fn and(self, subject: bool, reference: bool) -> Self {
        let one = Self::of([(subject, reference)]);
        Self {
            both: self.both + one.both,
            gained: self.gained + one.gained,
            lost: self.lost + one.lost,
            neither: self.neither + one.neither,
        }
    }

    #[must_use]
    pub const fn count(&self) -> usize {
        self.both + self.gained + self.lost + self.neither
    }

    /// Returns the pass rate of the subject minus the pass rate of the reference. Returns `None` without pairs.
    #[must_use]
    pub fn difference(&self) -> Option<f64> {
        (self.count() > 0).then(|| (count(self.gained) - count(self.lost)) / count(self.count()))
    }

    /// Returns the two-sided p-value of `McNemar`'s exact test: the probability that two equal agents give a split at least this uneven.
    #[must_use]
    pub fn mcnemar(&self) -> f64 {
        let differ = (self.gained + self.lost) as u64;
        let fewer = self.gained.min(self.lost) as u64;
        Binomial::new(0.5, differ).map_or(1.0, |coin| (2.0 * coin.cdf(fewer)).min(1.0))
    }

    /// Returns Tango's score statistic for the hypothesis that the difference of rates is `difference`. The statistic is the number of
    /// standard deviations by which the observed difference exceeds `difference`. T. Tango, "Equivalence test and confidence interval for
    /// the difference in proportions for the paired-sample design", 1998.
    #[must_use]
    pub fn score(&self, difference: f64) -> f64 {
        let (n, gained, lost) = (count(self.count()), count(self.gained), count(self.lost));
        // Maximum likelihood estimate of the probability of `lost` under the hypothesis: the larger root of 2n q² + b q + c.
        let b = -gained - lost + (2.0 * n - gained + lost) * difference;
        let c = -lost * difference * (1.0 - difference);
        let chance = ((b * b - 8.0 * n * c).max(0.0).sqrt() - b) / (4.0 * n);
        let variance = n * (2.0 * chance + difference * (1.0 - difference));
        let more = gained - lost - n * difference;
        if variance > 0.0 {
            more / variance.sqrt()
        } else if more == 0.0 {
            0.0
        } else {
            f64::INFINITY.copysign(more)
        }
    }

    /// Returns the confidence interval of the difference: all values that the score statistic does not reject. Returns `None` without
    /// pairs.
    #[must_use]
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let difference = self.difference()?;
        let z = normal_quantile(f64::midpoint(1.0, confidence));
        // The statistic decreases as the hypothesis increases.
        let edge = |mut inside: f64, mut outside: f64| {
            // Enough halvings for the precision of an `f64`.
            for _ in 0..f64::MANTISSA_DIGITS {
                let middle = f64::midpoint(inside, outside);
                if self.score(middle).abs() <= z { inside = middle } else { outside = middle }
            }
            f64::midpoint(inside, outside)
        };
        Some(Interval { low: edge(difference, -1.0), high: edge(difference, 1.0) })
    }

    /// Returns the one-sided p-value of the hypothesis that the subject is worse by `margin`. A small p-value rejects such a loss.
    #[must_use]
    pub fn worse_by(&self, margin: f64) -> f64 {
        if self.count() == 0 { 1.0 } else { normal_above(self.score(-margin)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_near;
    use super::*;

    fn pairs(of: usize, gained: usize, lost: usize) -> Pairs {
        Pairs { both: of - gained - lost, gained, lost, neither: 0 }
    }

    /// Checks against the expected value `stats.binomtest(min(b, c), b + c, 0.5).pvalue` of scipy.
    #[test]
    fn mcnemar() {
        let cases = [(0, 6, 0.03125), (6, 0, 0.03125), (1, 9, 0.021_484_375), (5, 5, 1.0), (12, 25, 0.047_031_027_439_516_04), (0, 0, 1.0)];
        for (gained, lost, expected) in cases {
            assert_near(pairs(60, gained, lost).mcnemar(), expected, 1e-9);
        }
    }

    /// Checks against values from scipy: `brentq` finds the likeliest parameters under the hypothesis, and then the ends of the interval.
    #[test]
    fn tango() {
        let cases = [
            (20, 3, 1, -0.124_118_315_108_533_95, 0.326_427_877_088_460_3, 1.791_030_652_188_912_6),
            (44, 0, 1, -0.118_077_096_982_133_2, 0.059_393_231_116_628_6, 1.708_564_285_940_641_8),
            (60, 6, 9, -0.183_204_030_528_715_56, 0.081_956_212_931_024_97, 0.767_788_229_326_041_2),
            (100, 10, 2, 0.014_296_464_820_212_221, 0.158_040_203_391_141_44, 4.160_308_134_518_673),
        ];
        for (of, gained, lost, low, high, score) in cases {
            let pairs = pairs(of, gained, lost);
            let found = pairs.interval(0.95).unwrap();
            assert_near(found.low, low, 1e-9);
            assert_near(found.high, high, 1e-9);
            assert_near(pairs.score(-0.1), score, 1e-9);
        }
    }

    #[test]
    fn no_pairs_give_no_result() {
        let none = Pairs::default();
        assert_eq!((none.difference(), none.interval(0.95)), (None, None));
        assert!(none.mcnemar() >= 1.0 && none.worse_by(0.1) >= 1.0);
        let alike = pairs(20, 0, 0);
        assert!(alike.interval(0.95).unwrap().holds(0.0) && alike.worse_by(0.5) < 0.001);
    }
}
