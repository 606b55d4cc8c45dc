//! Tests and intervals for the difference of a numeric metric between two agents, per pair of trials with the same seed.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Interval, count, student_above, student_quantile};

/// Number of random draws if the sign combinations are too many to enumerate.
const DRAWS: usize = 10_000;
/// Maximum number of pairs for which all 2^n sign combinations are enumerated.
const ALL: usize = 16;

#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count(values.len()))
}

/// Returns the confidence interval of the mean by Student's t distribution. Returns `None` for fewer than two values.
#[must_use]
pub fn student(differences: &[f64], confidence: f64) -> Option<Interval> {
    let (middle, n) = (mean(differences)?, count(differences.len()));
    if differences.len() < 2 {
        return None;
    }
    let half = student_quantile(f64::midpoint(1.0, confidence), n - 1.0) * (variance(differences)? / n).sqrt();
    Some(Interval { low: middle - half, high: middle + half })
}

/// Returns the sample variance. Returns `None` for fewer than two values.
#[must_use]
pub fn variance(values: &[f64]) -> Option<f64> {
    let middle = mean(values)?;
    (values.len() > 1).then(|| values.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / (count(values.len()) - 1.0))
}

/// Returns the two-sided p-value of Student's t test for a mean of zero. Returns `None` for fewer than two values.
#[must_use]
pub fn student_test(differences: &[f64]) -> Option<f64> {
    let (middle, n, variance) = (mean(differences)?, count(differences.len()), variance(differences)?);
    if variance > 0.0 {
        return Some((2.0 * student_above(middle.abs() / (variance / n).sqrt(), n - 1.0)).min(1.0));
    }
    Some(if middle == 0.0 { 1.0 } else { 0.0 })
}

/// Returns the bootstrap interval of the mean: percentiles of means over resampled pairs. No distribution is assumed. Returns `None` for
/// fewer than two values.
#[must_use]
pub fn bootstrap(differences: &[f64], confidence: f64, seed: u64) -> Option<Interval> {
    if differences.len() < 2 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || differences[random.random_range(0..differences.len())];
    let mut means: Vec<f64> = (0..DRAWS).map(|_| (0..differences.len()).map(|_| draw()).sum::<f64>() / count(differences.len())).collect();
    Some(percentiles(&mut means, confidence))
}

pub(super) fn percentiles(values: &mut [f64], confidence: f64) -> Interval {
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    // Linear interpolation between the two neighbouring values.
    let at = |part: f64| {
        let place = part * count(values.len() - 1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place among the values")]
        let below = place.floor() as usize;
        let above = values[(below + 1).min(values.len() - 1)];
        values[below] + (above - values[below]) * (place - place.floor())
    };
    Interval { low: at(tail), high: at(1.0 - tail) }
}

/// Returns the two-sided p-value of the sign-flip permutation test. The test is exact for few pairs. For more pairs, it uses random draws,
/// and the observed sample counts as one draw (B. Phipson, G. K. Smyth, 2010).
#[must_use]
pub fn permutation(differences: &[f64], seed: u64) -> f64 {
    let sum = |signs: &mut dyn FnMut() -> bool| differences.iter().map(|value| if signs() { *value } else { -*value }).sum::<f64>();
    // The order of additions changes how a sum is rounded. The tolerance ignores such differences.
    let seen = differences.iter().sum::<f64>().abs() - 1e-12 * differences.iter().map(|value| value.abs()).sum::<f64>();
    if differences.len() <= ALL {
        let all = 1_usize << differences.len();
        let as_far = (0..all).filter(|signs| {
            let mut left = *signs;
            let mut next = || {
                let sign = left & 1 == 1;
                left >>= 1;
                sign
            };
            sum(&mut next).abs() >= seen
        });
        return count(as_far.count()) / count(all);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let as_far = (0..DRAWS).filter(|_| sum(&mut || random.next_u32() & 1 == 1).abs() >= seen).count();
    count(as_far + 1) / count(DRAWS + 1)
}

#[cfg(test)]
mod tests {
    use super::super::assert_near;
    use super::*;

    const SEEN: [f64; 8] = [0.1, -0.2, 0.4, 0.35, 0.05, 0.0, 0.6, -0.1];

    /// Checks against the expected value `stats.t.interval(0.95, 7, mean, sem)` of scipy.
    #[test]
    fn interval_and_test_by_students_t() {
        let found = student(&SEEN, 0.95).unwrap();
        assert_near(found.low, -0.078_953_758_661_425_68, 1e-9);
        assert_near(found.high, 0.378_953_758_661_425_7, 1e-9);
        assert_eq!(student(&[0.5], 0.95), None);
        // Expected value: `stats.ttest_1samp(d, 0)` of scipy.
        assert_near(student_test(&SEEN).unwrap(), 0.165_266_067_522_306, 1e-9);
    }

    /// Checks against `stats.permutation_test((d,), sum, permutation_type="samples")` of scipy. The first sample is enumerated exactly. The
    /// second sample has too many combinations and is drawn at random.
    #[test]
    fn permutation_test_by_sign_flips() {
        assert_near(permutation(&SEEN, 1), 0.1875, 1e-12);
        let many: Vec<f64> = SEEN.iter().cycle().take(40).copied().collect();
        assert!(permutation(&many, 1) < 0.01);
        assert!((permutation(&many, 1) - permutation(&many, 1)).abs() < f64::EPSILON, "one seed, one answer");
        let even: Vec<f64> = (0..40).map(|place| if place % 2 == 0 { 0.3 } else { -0.3 }).collect();
        assert!(permutation(&even, 1) > 0.9);
    }

    #[test]
    fn bootstrap_by_resampling() {
        let (drawn, exact) = (bootstrap(&SEEN, 0.95, 7).unwrap(), student(&SEEN, 0.95).unwrap());
        assert!((drawn.low - exact.low).abs() < 0.08 && (drawn.high - exact.high).abs() < 0.08, "{drawn:?} and {exact:?}");
        assert_eq!(bootstrap(&SEEN, 0.95, 7), bootstrap(&SEEN, 0.95, 7));
    }
}
