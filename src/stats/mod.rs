//! What counted trials can carry, and no more. Pure: no clock, no input or output; every random choice comes from a seed.
//!
//! A rate has an interval ([`proportion`]); two agents on the same seeds are compared pair by pair ([`pairs`] for passed or not,
//! [`bounded`] for scores, [`differences`] for times, [`clusters`] where trials of one scenario are alike); many comparisons share one error rate
//! ([`holm`]); what so many pairs can show is known before they are paid for ([`power`]), and one may look after each of them
//! ([`sequential`]).

pub mod bounded;
pub mod clusters;
pub mod differences;
pub mod pairs;
pub mod power;
pub mod proportion;
pub mod sequential;

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// From `low` to `high`, both included.
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

/// Quantile of the standard normal distribution.
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    Normal::standard().inverse_cdf(probability)
}

/// Probability of more than `z` under the standard normal distribution.
pub(crate) fn normal_above(z: f64) -> f64 {
    Normal::standard().sf(z)
}

/// Quantile of Student's t distribution; of the normal one with infinitely many degrees of freedom.
pub(crate) fn student_quantile(probability: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or_else(|_| normal_quantile(probability), |student| student.inverse_cdf(probability))
}

/// Probability of more than `t` under Student's t distribution.
pub(crate) fn student_above(t: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or_else(|_| normal_above(t), |student| student.sf(t))
}

/// Holm's step-down correction: probabilities adjusted so that all comparisons together are wrong no more often than one alone was
/// allowed to be. In the order given. S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
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

/// A number of trials as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "nobody runs 2^52 trials")]
pub(crate) const fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
pub(crate) fn assert_near(found: f64, expected: f64, by: f64) {
    assert!((found - expected).abs() <= by, "{found} is not {expected}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `statsmodels.stats.multitest.multipletests([0.01, 0.04, 0.03, 0.005], method="holm")` and a tie of more than one.
    #[test]
    fn many_comparisons_share_one_error() {
        let found = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert_near(*found, expected, 1e-12);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
