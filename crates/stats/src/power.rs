//! Statistical power of a number of pairs, computed before the pairs are run.

use statrs::distribution::{Binomial, Discrete};

use super::normal_quantile;
use super::pairs::Pairs;

/// Maximum number of pairs that chaosrun ever recommends.
pub const MOST: usize = 5_000;
/// Total probability of the improbable splits that the computation ignores. The value is too small to change a result.
const NOTHING: f64 = 1e-10;

/// Returns the probability that `shows` holds for `n` pairs of two agents. `gained` and `lost` are the probabilities of a gained and of a
/// lost pair.
fn chance(n: usize, gained: f64, lost: f64, shows: impl Fn(&Pairs) -> bool) -> f64 {
    let of = |n: usize, p: f64| Binomial::new(p.clamp(0.0, 1.0), n as u64).ok();
    let Some(first) = of(n, gained) else { return 0.0 };
    let rest = if gained < 1.0 { lost / (1.0 - gained) } else { 0.0 };
    let mut sum = 0.0;
    for more in 0..=n {
        let here = first.pmf(more as u64);
        if here < NOTHING {
            continue;
        }
        let Some(second) = of(n - more, rest) else { continue };
        for less in 0..=n - more {
            let both = here * second.pmf(less as u64);
            if both >= NOTHING * NOTHING && shows(&Pairs { both: n - more - less, gained: more, lost: less, neither: 0 }) {
                sum += both;
            }
        }
    }
    sum
}

/// Returns the power of the non-inferiority test: the probability that `n` pairs of two equal agents show that the subject is not worse by
/// `margin`. `alpha` is the error rate. Both agents pass with probability `rate`, independently of each other.
#[must_use]
pub fn non_inferiority(n: usize, rate: f64, margin: f64, alpha: f64) -> f64 {
    let differ = rate * (1.0 - rate);
    let z = normal_quantile(1.0 - alpha);
    chance(n, differ, differ, |pairs| pairs.score(-margin) > z)
}

/// Returns the power of `McNemar`'s exact test: the probability that `n` pairs show a difference between agents with these pass rates, at
/// error rate `alpha`.
#[must_use]
pub fn difference(n: usize, rate: f64, other: f64, alpha: f64) -> f64 {
    chance(n, rate * (1.0 - other), other * (1.0 - rate), |pairs| pairs.mcnemar() <= alpha)
}

/// Returns the smallest number of pairs for which two equal agents show with probability `power` that the subject is not worse by `margin`.
/// Returns `None` above [`MOST`].
#[must_use]
pub fn pairs_for_non_inferiority(rate: f64, margin: f64, alpha: f64, power: f64) -> Option<usize> {
    fewest(|n| non_inferiority(n, rate, margin, alpha) >= power)
}

/// Estimates how many pairs show with probability `power` that the true mean difference is less than `away` below the observed difference.
/// Assumes a normal distribution. Returns `None` above [`MOST`], or if `away` is not positive.
#[must_use]
pub fn pairs_for_distance(away: f64, variance: f64, alpha: f64, power: f64) -> Option<usize> {
    let needed = (normal_quantile(1.0 - alpha) + normal_quantile(power)).powi(2) * variance / (away * away);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most `MOST`")]
    (away > 0.0 && needed <= super::count(MOST)).then(|| needed.ceil() as usize)
}

/// Returns the smallest drop from `rate` that `n` pairs show with probability `power`. Returns `None` if even a drop to 0 would not be
/// shown.
#[must_use]
pub fn smallest_drop(n: usize, rate: f64, alpha: f64, power: f64) -> Option<f64> {
    if difference(n, 0.0, rate, alpha) < power {
        return None;
    }
    let (mut hidden, mut shown) = (0.0, rate);
    while shown - hidden > 1e-4 {
        let middle = f64::midpoint(hidden, shown);
        if difference(n, rate - middle, rate, alpha) >= power { shown = middle } else { hidden = middle }
    }
    Some(shown)
}

/// Returns the smallest number for which `enough` is true, found by doubling and bisection. Assumes that `enough` is also true for every
/// larger number. Small exceptions caused by whole numbers are tolerated.
fn fewest(enough: impl Fn(usize) -> bool) -> Option<usize> {
    let mut high = 1;
    while !enough(high) {
        if high >= MOST {
            return None;
        }
        high = (high * 2).min(MOST);
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if enough(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::super::assert_near;
    use super::*;

    /// Checks against values enumerated in Python with the same statistic: two equal agents at 95 %, margin 10 points, alpha 5 %.
    #[test]
    fn power_of_non_inferiority_matches_enumeration() {
        for (n, expected) in [(20, 0.267), (60, 0.732), (120, 0.948)] {
            assert_near(non_inferiority(n, 0.95, 0.1, 0.05), expected, 6e-4);
        }
        let n = pairs_for_non_inferiority(0.95, 0.1, 0.05, 0.8).unwrap();
        assert_eq!(n, 74);
    }

    /// Checks that the approximation is near the exact number for equal agents at 90 % that differ in 18 of 100 pairs.
    #[test]
    fn normal_approximation_is_near_the_exact_number() {
        let about = pairs_for_distance(0.1, 0.18, 0.05, 0.8).unwrap();
        let exact = pairs_for_non_inferiority(0.9, 0.1, 0.05, 0.8).unwrap();
        assert_eq!(about, 112);
        assert!(about.abs_diff(exact) < 30, "{exact}");
        assert_eq!((pairs_for_distance(0.0, 1.0, 0.05, 0.8), pairs_for_distance(0.001, 1.0, 0.05, 0.8)), (None, None));
    }

    /// Checks that six pairs in one direction show a difference (2 / 2^6 < 0.05), and that five pairs do not.
    #[test]
    fn pairs_needed_to_show_a_difference() {
        assert_near(difference(5, 0.0, 1.0, 0.05), 0.0, 1e-9);
        assert_near(difference(6, 0.0, 1.0, 0.05), 1.0, 1e-9);
        let drop = smallest_drop(60, 0.9, 0.05, 0.8).unwrap();
        assert_near(difference(60, 0.9 - drop, 0.9, 0.05), 0.8, 0.01);
        assert_eq!(smallest_drop(5, 0.9, 0.05, 0.8), None);
    }
}
