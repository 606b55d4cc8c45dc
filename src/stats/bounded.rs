//! The mean of numbers from -1 to 1, however they are spread, looked at once.
//!
//! A few numbers know nothing of a large loss that is rare: drawn again, or spread as Student says, they rule it out far too often. The wealth of
//! one who bets against a mean (see [`super::sequential`]) is expected to be at most 1 while it is true, so that it is 1 / alpha in the end has a
//! chance of at most alpha: of any number of pairs, and of pairs whose means differ as well.

use super::sequential::{BETS, HALVINGS};
use super::{Interval, count, differences, normal_quantile};

/// What becomes of 1 when it is bet that the mean is above `mean`, or below.
fn wealth(values: &[f64], mean: f64, above: bool) -> f64 {
    let mut parts = [1.0; BETS.len()];
    for value in values {
        let step = step(*value, mean, above);
        for (part, bet) in parts.iter_mut().zip(BETS) {
            *part *= 1.0 + bet * step;
        }
    }
    parts.iter().sum::<f64>() / count(BETS.len())
}

/// What comes of a bet of 1: all that can be lost is lost.
fn step(value: f64, mean: f64, above: bool) -> f64 {
    let value = value.clamp(-1.0, 1.0);
    if above { (value - mean) / (1.0 + mean) } else { (mean - value) / (1.0 - mean) }
}

/// Means that nothing speaks against. Each end is wrong with a chance of at most `alpha`. None of nothing.
#[must_use]
pub fn interval(values: &[f64], alpha: f64) -> Option<Interval> {
    // Who bets on more than a smaller mean gains more: what is shown of a mean is shown of all beyond it.
    let edge = |above: bool| {
        let (mut shown, mut open) = if above { (-1.0, 1.0) } else { (1.0, -1.0) };
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(shown, open);
            if wealth(values, middle, above) >= 1.0 / alpha { shown = middle } else { open = middle }
        }
        shown
    };
    (!values.is_empty()).then(|| Interval { low: edge(true), high: edge(false) })
}

/// About how many numbers like these show with chance `power` that their mean is above `mean`. None of more than `most`.
#[must_use]
pub fn needed(values: &[f64], mean: f64, alpha: f64, power: f64, most: usize) -> Option<usize> {
    let z = normal_quantile(power);
    let grown = |bet: f64| {
        let logs: Vec<f64> = values.iter().map(|value| (bet * step(*value, mean, true)).ln_1p()).collect();
        Some((differences::mean(&logs)?, differences::variance(&logs).unwrap_or(0.0).sqrt()))
    };
    let grown: Vec<(f64, f64)> = BETS.into_iter().filter_map(grown).collect();
    // So much is left of each bet that more is with that chance. As a function of how many, the sum is convex and begins at 1: where it is
    // once enough, it stays so.
    let enough = |n: usize| {
        let n = count(n);
        let wealth = grown.iter().map(|(middle, spread)| (n * middle - z * spread * n.sqrt()).exp()).sum::<f64>() / count(BETS.len());
        wealth >= 1.0 / alpha
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

    /// How often agents that are worse by the margin, which lose `loss` at this chance and little else, are said not to be.
    fn falsely_not_worse(pairs: usize, loss: f64, margin: f64, noise: f64) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let campaigns = 10_000_u32;
        let wrong = (0..campaigns).filter(|_| {
            let mut one = || {
                let lost = if random.random_bool(margin / loss) { -loss } else { 0.0 };
                lost + noise * random.random_range(-1.0..1.0)
            };
            let values: Vec<f64> = (0..pairs).map(|_| one()).collect();
            wealth(&values, -margin, true) >= 20.0
        });
        f64::from(u32::try_from(wrong.count()).unwrap()) / f64::from(campaigns)
    }

    /// A bootstrap is wrong in 62, 33, 11 and 9 % of the first of these.
    #[test]
    fn a_rare_loss_is_ruled_out_no_more_often_than_said() {
        for pairs in [5, 10, 20, 40, 100] {
            for (loss, margin, noise) in [(1.0, 0.1, 0.0), (0.75, 0.1, 0.02), (0.5, 0.02, 0.0), (0.2, 0.1, 0.3)] {
                let wrong = falsely_not_worse(pairs, loss, margin, noise);
                // Three standard deviations of what is counted.
                assert!(wrong <= 0.05 + 3.0 * (0.05 * 0.95 / 10_000.0_f64).sqrt(), "{wrong} of {pairs} pairs that lose {loss}");
            }
        }
    }

    #[test]
    fn an_interval_is_never_a_point_and_narrows() {
        let [few, many] = [5, 500].map(|pairs| interval(&vec![-0.2; pairs], 0.05).unwrap());
        assert!(few.low < -0.6 && few.high > 0.2, "{few:?}");
        assert!(many.holds(-0.2) && many.low > -0.22 && many.high < -0.17, "{many:?}");
        assert_eq!(interval(&[], 0.05), None);
        let mixed: Vec<f64> = (0..200).map(|place| if place % 4 == 0 { 1.0 } else { 0.0 }).collect();
        let found = interval(&mixed, 0.05).unwrap();
        assert!(found.holds(0.25) && found.low > 0.1 && found.high < 0.45, "{found:?}");
        assert!(wealth(&mixed, found.low, true) >= 20.0 && wealth(&mixed, found.low + 1e-3, true) < 20.0);
    }

    #[test]
    fn how_many_it_takes() {
        let alike = needed(&[0.0; 6], -0.1, 0.05, 0.8, 5_000).unwrap();
        let shown = |pairs: usize| interval(&vec![0.0; pairs], 0.05).unwrap().low > -0.1;
        assert_eq!((alike, shown(alike), shown(alike - 1)), (48, true, false));
        // Equal agents of which each fails one in twenty: of so many, four of five campaigns show it.
        let seen: Vec<f64> = (0..40).map(|place| [0.75, -0.75].get(place / 2).copied().unwrap_or(0.0)).collect();
        let n = needed(&seen, -0.1, 0.05, 0.8, 5_000).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let shows = (0..1_000).filter(|_| {
            let drawn: Vec<f64> = (0..n).map(|_| seen[random.random_range(0..seen.len())]).collect();
            wealth(&drawn, -0.1, true) >= 20.0
        });
        let shows = shows.count();
        assert!((740..=920).contains(&shows), "{shows} of 1000 by {n} pairs");
        assert_eq!(needed(&[-0.2; 9], -0.1, 0.05, 0.8, 5_000), None);
    }
}
