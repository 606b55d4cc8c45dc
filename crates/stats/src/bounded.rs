//! Confidence interval for the mean of numbers from -1 to 1 of any distribution, computed once.
//!
//! A small sample may contain no trace of a rare, large loss. A bootstrap and Student's t then rule the loss out far too often. A bettor
//! who starts with a wealth of 1 bets against a supposed mean (see [`super::sequential`]). If the supposed mean is true, the expected final
//! wealth is at most 1. So the final wealth reaches 1 / alpha with a probability of at most alpha. This holds for any number of pairs, and
//! for pairs with different means.

use super::sequential::{BETS, HALVINGS};
use super::{Interval, count, differences, normal_quantile};

/// Returns the final wealth of a bettor who starts with wealth 1. The bettor bets that the mean of `values` is above `mean`, or below it if
/// `above` is false.
fn e_value(values: &[f64], mean: f64, above: bool) -> f64 {
    let mut parts = [1.0; BETS.len()];
    for value in values {
        let step = step(*value, mean, above);
        for (part, bet) in parts.iter_mut().zip(BETS) {
            *part *= 1.0 + bet * step;
        }
    }
    parts.iter().sum::<f64>() / count(BETS.len())
}

/// Returns the gain of a bettor who stakes 1 on one value. The worst possible value gives a gain of -1, the loss of the stake.
fn step(value: f64, mean: f64, above: bool) -> f64 {
    let value = value.clamp(-1.0, 1.0);
    if above { (value - mean) / (1.0 + mean) } else { (mean - value) / (1.0 - mean) }
}

/// Returns the confidence interval of the mean. Each end is wrong with a probability of at most `alpha`. Returns `None` without values.
#[must_use]
pub fn interval(values: &[f64], alpha: f64) -> Option<Interval> {
    // A bettor gains more against a mean that is further from the values. So when a mean is rejected, all means beyond it are rejected as
    // well.
    let edge = |above: bool| {
        let (mut shown, mut open) = if above { (-1.0, 1.0) } else { (1.0, -1.0) };
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(shown, open);
            if e_value(values, middle, above) >= 1.0 / alpha { shown = middle } else { open = middle }
        }
        shown
    };
    (!values.is_empty()).then(|| Interval { low: edge(true), high: edge(false) })
}

/// Estimates how many values with this distribution show that their mean is above `mean`, with probability `power`. Returns `None` if more
/// than `most` values are needed.
#[must_use]
pub fn needed(values: &[f64], mean: f64, alpha: f64, power: f64, most: usize) -> Option<usize> {
    let z = normal_quantile(power);
    let grown = |bet: f64| {
        let logs: Vec<f64> = values.iter().map(|value| (bet * step(*value, mean, true)).ln_1p()).collect();
        Some((differences::mean(&logs)?, differences::variance(&logs).unwrap_or(0.0).sqrt()))
    };
    let grown: Vec<(f64, f64)> = BETS.into_iter().filter_map(grown).collect();
    // Lower bound of the wealth of each bet, exceeded with probability `power`. The sum of the bounds is a convex function of the number of
    // values and begins at 1. So once the sum is large enough, it stays large enough.
    let enough = |n: usize| {
        let n = count(n);
        let e_value = grown.iter().map(|(middle, spread)| (n * middle - z * spread * n.sqrt()).exp()).sum::<f64>() / count(BETS.len());
        e_value >= 1.0 / alpha
    };
    let (mut few, mut many) = (0, most);
    if values.is_empty() || !enough(many) {
        return None;
    }
    while many - few > 1 {
        let middle = usize::midpoint(few, many);
        if enough(middle) { many = middle } else { few = middle }
    }
    Some(many)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Returns the share of simulated campaigns in which an agent that is worse by `margin` is called not worse. Each pair loses `loss`
    /// with the probability `margin / loss`. The rest of its difference is noise.
    fn falsely_not_worse(pairs: usize, loss: f64, margin: f64, noise: f64) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let campaigns = 10_000_u32;
        let wrong = (0..campaigns).filter(|_| {
            let mut one = || {
                let lost = if random.random_bool(margin / loss) { -loss } else { 0.0 };
                lost + noise * random.random_range(-1.0..1.0)
            };
            let values: Vec<f64> = (0..pairs).map(|_| one()).collect();
            e_value(&values, -margin, true) >= 20.0
        });
        f64::from(u32::try_from(wrong.count()).unwrap()) / f64::from(campaigns)
    }

    /// Checks losses that a bootstrap rules out too often: in about 62, 33, 11 and 9 % of campaigns with 5, 10, 20 and 40 pairs.
    #[test]
    fn rare_loss_is_ruled_out_within_the_error_rate() {
        for pairs in [5, 10, 20, 40, 100] {
            for (loss, margin, noise) in [(1.0, 0.1, 0.0), (0.75, 0.1, 0.02), (0.5, 0.02, 0.0), (0.2, 0.1, 0.3)] {
                let wrong = falsely_not_worse(pairs, loss, margin, noise);
                // Three standard deviations of the counted share.
                assert!(wrong <= 0.05 + 3.0 * (0.05 * 0.95 / 10_000.0_f64).sqrt(), "{wrong} of {pairs} pairs that lose {loss}");
            }
        }
    }

    #[test]
    fn interval_is_never_a_point_and_narrows() {
        let [few, many] = [5, 500].map(|pairs| interval(&vec![-0.2; pairs], 0.05).unwrap());
        assert!(few.low < -0.6 && few.high > 0.2, "{few:?}");
        assert!(many.holds(-0.2) && many.low > -0.22 && many.high < -0.17, "{many:?}");
        assert_eq!(interval(&[], 0.05), None);
        let mixed: Vec<f64> = (0..200).map(|place| if place % 4 == 0 { 1.0 } else { 0.0 }).collect();
        let found = interval(&mixed, 0.05).unwrap();
        assert!(found.holds(0.25) && found.low > 0.1 && found.high < 0.45, "{found:?}");
        assert!(e_value(&mixed, found.low, true) >= 20.0 && e_value(&mixed, found.low + 1e-3, true) < 20.0);
    }

    #[test]
    fn number_of_needed_values_is_estimated() {
        let alike = needed(&[0.0; 6], -0.1, 0.05, 0.8, 5_000).unwrap();
        let shown = |pairs: usize| interval(&vec![0.0; pairs], 0.05).unwrap().low > -0.1;
        assert_eq!((alike, shown(alike), shown(alike - 1)), (48, true, false));
        // Equal agents that each fail one trial in twenty: the estimated number of pairs suffices in four of five campaigns.
        let seen: Vec<f64> = (0..40).map(|place| [0.75, -0.75].get(place / 2).copied().unwrap_or(0.0)).collect();
        let n = needed(&seen, -0.1, 0.05, 0.8, 5_000).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let shows = (0..1_000).filter(|_| {
            let drawn: Vec<f64> = (0..n).map(|_| seen[random.random_range(0..seen.len())]).collect();
            e_value(&drawn, -0.1, true) >= 20.0
        });
        let shows = shows.count();
        assert!((740..=920).contains(&shows), "{shows} of 1000 by {n} pairs");
        assert_eq!(needed(&[-0.2; 9], -0.1, 0.05, 0.8, 5_000), None);
    }
}
