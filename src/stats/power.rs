//! What so many pairs can show, known before they are paid for.

use statrs::distribution::{Binomial, Discrete};

use super::normal_quantile;
use super::pairs::Pairs;

/// More pairs than this nobody is told to run.
pub const MOST: usize = 5_000;
/// Splits as unlikely as this together change no answer.
const NOTHING: f64 = 1e-10;

/// How often `shows` is true of `n` pairs of two agents whose pairs are gained and lost with these chances.
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

/// How often `n` pairs show that one agent is not worse than an equal one by `margin`, at error rate `alpha`, if both pass with chance `rate`
/// and are lucky independently of each other.
#[must_use]
pub fn non_inferiority(n: usize, rate: f64, margin: f64, alpha: f64) -> f64 {
    let differ = rate * (1.0 - rate);
    let z = normal_quantile(1.0 - alpha);
    chance(n, differ, differ, |pairs| pairs.score(-margin) > z)
}

/// How often `n` pairs show that agents which pass with these chances differ, by `McNemar`'s exact test at `alpha`.
#[must_use]
pub fn difference(n: usize, rate: f64, other: f64, alpha: f64) -> f64 {
    chance(n, rate * (1.0 - other), other * (1.0 - rate), |pairs| pairs.mcnemar() <= alpha)
}

/// The fewest pairs that show with chance `power` that agents which pass with these chances differ. None of more than [`MOST`].
#[must_use]
pub fn pairs_for_difference(rate: f64, other: f64, alpha: f64, power: f64) -> Option<usize> {
    fewest(|n| difference(n, rate, other, alpha) >= power)
}

/// The fewest pairs that show with chance `power` that an equal agent is not worse by `margin`. None of more than [`MOST`].
#[must_use]
pub fn pairs_for_non_inferiority(rate: f64, margin: f64, alpha: f64, power: f64) -> Option<usize> {
    fewest(|n| non_inferiority(n, rate, margin, alpha) >= power)
}

/// How many pairs like those seen, about, show with chance `power` that their mean difference is not `away` or more below what was seen:
/// by the normal distribution. None of more than [`MOST`], or when nothing is to be shown.
#[must_use]
pub fn pairs_for_distance(away: f64, variance: f64, alpha: f64, power: f64) -> Option<usize> {
    let needed = (normal_quantile(1.0 - alpha) + normal_quantile(power)).powi(2) * variance / (away * away);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most `MOST`")]
    (away > 0.0 && needed <= super::count(MOST)).then(|| needed.ceil() as usize)
}

/// The smallest drop from `rate` that `n` pairs show with chance `power`. None: not even a drop to nothing.
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

/// What is enough is so for more as well, but for the teeth of whole numbers: doubled until enough, then by halves.
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

    /// Gone through in Python with the same statistic: two equal agents at 95 %, margin 10 points, 5 %.
    #[test]
    fn what_so_many_pairs_show() {
        for (n, expected) in [(20, 0.267), (60, 0.732), (120, 0.948)] {
            assert_near(non_inferiority(n, 0.95, 0.1, 0.05), expected, 6e-4);
        }
        let n = pairs_for_non_inferiority(0.95, 0.1, 0.05, 0.8).unwrap();
        assert_eq!(n, 74);
    }

    /// About what the exact way finds: equal agents at 90 % differ in 18 of 100 pairs.
    #[test]
    fn about_as_many_by_the_normal_distribution() {
        let about = pairs_for_distance(0.1, 0.18, 0.05, 0.8).unwrap();
        let exact = pairs_for_non_inferiority(0.9, 0.1, 0.05, 0.8).unwrap();
        assert_eq!(about, 112);
        assert!(about.abs_diff(exact) < 30, "{exact}");
        assert_eq!((pairs_for_distance(0.0, 1.0, 0.05, 0.8), pairs_for_distance(0.001, 1.0, 0.05, 0.8)), (None, None));
    }

    /// Five flips in one direction are never enough, six are: 2 / 2^6 < 0.05.
    #[test]
    fn what_it_takes_to_tell_two_apart() {
        assert_near(difference(5, 0.0, 1.0, 0.05), 0.0, 1e-9);
        assert_near(difference(6, 0.0, 1.0, 0.05), 1.0, 1e-9);
        assert_eq!(pairs_for_difference(0.0, 1.0, 0.05, 0.8), Some(6));
        assert_eq!(pairs_for_difference(0.9, 0.9, 0.05, 0.8), None);
        let n = pairs_for_difference(0.6, 0.8, 0.05, 0.8).unwrap();
        assert!((70..110).contains(&n), "81 an arm without pairs: {n}");
        let drop = smallest_drop(60, 0.9, 0.05, 0.8).unwrap();
        assert_near(difference(60, 0.9 - drop, 0.9, 0.05), 0.8, 0.01);
        assert_eq!(smallest_drop(5, 0.9, 0.05, 0.8), None);
    }
}
