//! Statistics of counted trials. The functions are pure: they read no clock, and do no input or output. Every random choice comes from a
//! seed.
//!
//! A rate has an interval ([`proportion`]). Two agents on the same seeds are compared pair by pair: [`pairs`] for passed or failed,
//! [`bounded`] for scores, [`differences`] for times, [`clusters`] where trials of one scenario are alike. Several comparisons share one
//! error rate ([`holm`]). The power of a number of pairs is known before they are run ([`power`]). A sequential test allows a look after
//! each pair ([`sequential`]).

pub mod bounded;
pub mod clusters;
pub mod differences;
pub mod pairs;
pub mod power;
pub mod proportion;
pub mod sequential;

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Closed interval from `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    fn within(self, low: f64, high: f64) -> Self {
        Self { low: self.low.clamp(low, high), high: self.high.clamp(low, high) }
    }
}

/// Returns the quantile of the standard normal distribution.
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    Normal::standard().inverse_cdf(probability)
}

/// Returns the upper tail probability of the standard normal distribution at `z`.
pub(crate) fn normal_above(z: f64) -> f64 {
    Normal::standard().sf(z)
}

/// Returns the quantile of Student's t distribution, or of the normal distribution for infinite `freedom`.
pub(crate) fn student_quantile(probability: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or_else(|_| normal_quantile(probability), |student| student.inverse_cdf(probability))
}

/// Returns the upper tail probability of Student's t distribution at `t`.
pub(crate) fn student_above(t: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or_else(|_| normal_above(t), |student| student.sf(t))
}

/// Returns p-values adjusted by Holm's step-down correction, in the order of the input. The family-wise error rate of all comparisons then
/// is at most the error rate of one comparison. S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
#[must_use]
pub fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|left, right| probabilities[*left].total_cmp(&probabilities[*right]));
    let mut adjusted = vec![1.0; probabilities.len()];
    let mut least = 0.0_f64;
    for (place, &index) in order.iter().enumerate() {
        least = least.max(count(probabilities.len() - place) * probabilities[index]).min(1.0);
        adjusted[index] = least;
    }
    adjusted
}

/// Converts a number of trials to `f64`.
#[expect(clippy::cast_precision_loss, reason = "nobody runs 2^52 trials")]
pub const fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
pub(crate) fn assert_near(found: f64, expected: f64, by: f64) {
    assert!((found - expected).abs() <= by, "{found} is not {expected}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks against `statsmodels.stats.multitest.multipletests([0.01, 0.04, 0.03, 0.005], method="holm")`. Adjusted values above 1 become
    /// 1.
    #[test]
    fn holm_matches_statsmodels() {
        let found = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert_near(*found, expected, 1e-12);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
