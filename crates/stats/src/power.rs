//! Statistical power of a number of pairs, computed before the pairs are run.

use statrs::distribution::{Binomial, Discrete};

use super::normal_quantile;
use super::pairs::Pairs;

/// Largest number of pairs that is ever recommended.
pub const MOST: usize = 5_000;
/// Total probability of the improbable splits that are ignored. The value is too small to change a result.
const NOTHING: f64 = 1e-10;

/// Probability that `shows` holds for `n` pairs of two agents, given the probabilities of a gained and of a lost pair.
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

/// Power of the non-inferiority test: the probability that `n` pairs of two equal agents show, at error rate `alpha`, that the subject is
/// not worse by `margin`. Both agents pass with probability `rate`, independently of each other.
#[must_use]
pub fn non_inferiority(n: usize, rate: f64, margin: f64, alpha: f64) -> f64 {
    let differ = rate * (1.0 - rate);
    let z = normal_quantile(1.0 - alpha);
    chance(n, differ, differ, |pairs| pairs.score(-margin) > z)
}

/// Power of `McNemar`'s exact test at `alpha`: the probability that `n` pairs show a difference between agents that pass with these rates.
#[must_use]
pub fn difference(n: usize, rate: f64, other: f64, alpha: f64) -> f64 {
    chance(n, rate * (1.0 - other), other * (1.0 - rate), |pairs| pairs.mcnemar() <= alpha)
}

/// Smallest number of pairs of two equal agents that shows with probability `power` that the subject is not worse by `margin`. Returns
/// `None` above [`MOST`].
#[must_use]
pub fn pairs_for_non_inferiority(rate: f64, margin: f64, alpha: f64, power: f64) -> Option<usize> {
    fewest(|n| non_inferiority(n, rate, margin, alpha) >= power)
}

/// Estimates how many pairs show with probability `power` that the true mean difference is less than `away` below the observed one. The
/// estimate assumes a normal distribution. Returns `None` above [`MOST`], or if `away` is not positive.
#[must_use]
pub fn pairs_for_distance(away: f64, variance: f64, alpha: f64, power: f64) -> Option<usize> {
    let needed = (normal_quantile(1.0 - alpha) + normal_quantile(power)).powi(2) * variance / (away * away);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most `MOST`")]
    (away > 0.0 && needed <= super::count(MOST)).then(|| needed.ceil() as usize)
}

/// Smallest drop from `rate` that `n` pairs show with probability `power`. Returns `None` if not even a drop to 0 would be shown.
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

/// Finds the smallest number that is enough: doubles until it is enough, then bisects. Assumes that every larger number is also enough.
/// This holds except for small steps caused by whole numbers.
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

    /// Expected values enumerated in Python with the same statistic: two equal agents at 95 %, margin 10 points, alpha 5 %.
    #[test]
    fn power_of_non_inferiority_matches_enumeration() {
        for (n, expected) in [(20, 0.267), (60, 0.732), (120, 0.948)] {
            assert_near(non_inferiority(n, 0.95, 0.1, 0.05), expected, 6e-4);
        }
        let n = pairs_for_non_inferiority(0.95, 0.1, 0.05, 0.8).unwrap();
        assert_eq!(n, 74);
    }

    /// The approximation is near the exact number: equal agents at 90 % differ in 18 of 100 pairs.
    #[test]
    fn normal_approximation_is_near_the_exact_number() {
        let about = pairs_for_distance(0.1, 0.18, 0.05, 0.8).unwrap();
        let exact = pairs_for_non_inferiority(0.9, 0.1, 0.05, 0.8).unwrap();
        assert_eq!(about, 112);
        assert!(about.abs_diff(exact) < 30, "{exact}");
        assert_eq!((pairs_for_distance(0.0, 1.0, 0.05, 0.8), pairs_for_distance(0.001, 1.0, 0.05, 0.8)), (None, None));
    }

    /// Five pairs that all differ in one direction are never enough. Six pairs are enough: 2 / 2^6 < 0.05.
    #[test]
    fn pairs_needed_to_show_a_difference() {
        assert_near(difference(5, 0.0, 1.0, 0.05), 0.0, 1e-9);
        assert_near(difference(6, 0.0, 1.0, 0.05), 1.0, 1e-9);
        let drop = smallest_drop(60, 0.9, 0.05, 0.8).unwrap();
        assert_near(difference(60, 0.9 - drop, 0.9, 0.05), 0.8, 0.01);
        assert_eq!(smallest_drop(5, 0.9, 0.05, 0.8), None);
    }
}
