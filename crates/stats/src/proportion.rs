//! Intervals and estimates for rates.

use statrs::distribution::{Beta, ContinuousCDF};

use super::{Interval, count, normal_quantile};

/// Number of successful trials out of a total number of trials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Proportion {
    pub hits: usize,
    pub of: usize,
}

impl Proportion {
    #[must_use]
    pub fn of(outcomes: impl IntoIterator<Item = bool>) -> Self {
        outcomes.into_iter().fold(Self::default(), |sum, hit| Self { hits: sum.hits + usize::from(hit), of: sum.of + 1 })
    }

    /// Returns the share of successes. Returns `None` for a total of 0.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        (self.of > 0).then(|| count(self.hits) / count(self.of))
    }

    /// Returns Wilson's score interval of the rate (E. B. Wilson, 1927). It is also accurate near 0 and 1 and for few trials.
    #[must_use]
    pub fn wilson(self, confidence: f64) -> Option<Interval> {
        let (rate, n) = (self.rate()?, count(self.of));
        let z = normal_quantile(f64::midpoint(1.0, confidence));
        let square = z * z;
        let centre = (rate + square / (2.0 * n)) / (1.0 + square / n);
        let half = z * (rate * (1.0 - rate) / n + square / (4.0 * n * n)).sqrt() / (1.0 + square / n);
        let found = Interval { low: centre - half, high: centre + half }.within(0.0, 1.0);
        Some(Interval { low: if self.hits == 0 { 0.0 } else { found.low }, high: if self.hits == self.of { 1.0 } else { found.high } })
    }

    /// Returns the Jeffreys interval: the equal-tailed credible interval of the rate under the prior Beta(1/2, 1/2). The lower end is 0 if
    /// no trial succeeded. The upper end is 1 if all trials succeeded. L. D. Brown, T. T. Cai, A. `DasGupta`, "Interval estimation for a
    /// binomial proportion", 2001.
    #[must_use]
    pub fn jeffreys(self, confidence: f64) -> Option<Interval> {
        self.rate()?;
        let belief = Beta::new(count(self.hits) + 0.5, count(self.of - self.hits.min(self.of)) + 0.5).ok()?;
        let tail = (1.0 - confidence) / 2.0;
        Some(Interval {
            low: if self.hits == 0 { 0.0 } else { quantile(&belief, tail) },
            high: if self.hits == self.of { 1.0 } else { quantile(&belief, 1.0 - tail) },
        })
    }

    /// Returns the unbiased estimate of pass@k, the probability that at least one of `k` trials passes. Returns `None` for fewer than `k`
    /// trials. M. Chen et al., "Evaluating large language models trained on code", 2021.
    #[must_use]
    pub fn any_of(self, k: usize) -> Option<f64> {
        Some(1.0 - Self { hits: self.of - self.hits, of: self.of }.all_of(k)?)
    }

    /// Returns the estimate of pass^k, the probability that all of `k` trials pass: C(c, k) / C(n, k). Returns `None` for fewer than `k`
    /// trials.
    #[must_use]
    pub fn all_of(self, k: usize) -> Option<f64> {
        let all = |k: usize| (0..k).map(|i| count(self.hits.saturating_sub(i)) / count(self.of - i)).product();
        (1..=self.of).contains(&k).then(|| all(k))
    }
}

/// Returns a quantile by bisection to full precision. The search of statrs stops near 1e-6.
fn quantile(belief: &Beta, probability: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return middle;
        }
        if belief.cdf(middle) < probability { low = middle } else { high = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_near;
    use super::*;

    /// Checks against the expected value `proportion_confint(k, n, 0.05, "wilson")` of statsmodels.
    #[test]
    fn wilson() {
        let cases = [
            (5, 5, 0.565_517_535_216_825_2, 1.0),
            (3, 5, 0.230_724_281_276_012_9, 0.882_379_225_767_352_2),
            (9, 10, 0.595_849_973_204_761_4, 0.982_123_786_904_927),
            (27, 30, 0.743_789_174_208_159_2, 0.965_400_111_252_665_9),
            (0, 20, 0.0, 0.161_125_158_052_819_4),
            (1, 100, 0.001_767_432_064_140_647, 0.054_486_196_178_705_33),
        ];
        for (hits, of, low, high) in cases {
            let found = Proportion { hits, of }.wilson(0.95).unwrap();
            assert_near(found.low, low, 1e-9);
            assert_near(found.high, high, 1e-9);
        }
        assert_eq!(Proportion::default().wilson(0.95), None);
    }

    /// Checks against the expected value `stats.beta.ppf([0.025, 0.975], k + 0.5, n - k + 0.5)` of scipy.
    #[test]
    fn jeffreys() {
        let cases = [
            (3, 5, 0.209_416_664_076_004_84, 0.905_609_672_655_656),
            (9, 10, 0.618_685_228_933_383_6, 0.988_988_326_236_838_9),
            (27, 30, 0.756_598_391_015_072_9, 0.971_019_380_967_273_5),
            (1, 100, 0.001_081_101_709_080_063_9, 0.045_778_896_600_723_11),
            (0, 20, 0.0, 0.116_638_982_904_875_39),
        ];
        for (hits, of, low, high) in cases {
            let found = Proportion { hits, of }.jeffreys(0.95).unwrap();
            assert_near(found.low, low, 1e-9);
            assert_near(found.high, high, 1e-9);
        }
    }

    #[test]
    fn pass_at_k_and_pass_hat_k() {
        let proportion = Proportion { hits: 7, of: 10 };
        assert_near(proportion.all_of(3).unwrap(), 35.0 / 120.0, 1e-12);
        assert_near(proportion.any_of(3).unwrap(), 1.0 - 1.0 / 120.0, 1e-12);
        assert_near(proportion.any_of(1).unwrap(), 0.7, 1e-12);
        assert_eq!((proportion.all_of(8), proportion.all_of(11), proportion.any_of(0)), (Some(0.0), None, None));
    }
}
