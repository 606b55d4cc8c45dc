//! To look after every pair, and to stop when enough was seen, without being wrong more often for it.
//!
//! The wealth of one who bets against a hypothesis cannot be expected to grow while it is true: that it ever becomes 1 / alpha has a chance
//! of at most alpha, however often one looks (J. Ville, 1939; I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by
//! betting", 2024). Bets of many sizes are made at once, each with an equal part of the wealth.

use super::Interval;

/// Sizes of bets, from careful to all that may be lost.
const BETS: [f64; 12] = [0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.95];
/// Means between which an interval is looked for.
const GRID: usize = 400;

/// Differences of pairs in the order they came in, each from -1 to 1.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    seen: Vec<f64>,
    alpha: f64,
}

/// What has been shown so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Better,
    Worse,
    Undecided,
}

/// Whether a subject is worse by a margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Margin {
    NotWorse,
    Worse,
    Undecided,
}

impl Sequence {
    /// `alpha`: how often it may be wrong, both sides together.
    #[must_use]
    pub const fn new(alpha: f64) -> Self {
        Self { seen: Vec::new(), alpha }
    }

    /// Takes in one more pair: what is beyond -1 and 1 counts as those.
    pub fn push(&mut self, difference: f64) {
        self.seen.push(difference.clamp(-1.0, 1.0));
    }

    #[must_use]
    pub const fn pairs(&self) -> usize {
        self.seen.len()
    }

    /// The largest wealth so far of who bets that the mean is above (below: not) `mean`.
    fn wealth(&self, mean: f64, above: bool) -> f64 {
        // Nothing can be lost of a bet against a mean that cannot be.
        let room = if above { 1.0 + mean } else { 1.0 - mean };
        if room <= 0.0 {
            return f64::INFINITY;
        }
        let mut parts = [1.0_f64; BETS.len()];
        let mut most = 1.0_f64;
        for value in &self.seen {
            let gain = if above { value - mean } else { mean - value };
            for (part, bet) in parts.iter_mut().zip(BETS) {
                *part *= 1.0 + bet / room * gain;
            }
            #[expect(clippy::cast_precision_loss, reason = "a dozen")]
            let now = parts.iter().sum::<f64>() / BETS.len() as f64;
            most = most.max(now);
        }
        most
    }

    fn shows(&self, mean: f64, above: bool) -> bool {
        self.wealth(mean, above) >= 2.0 / self.alpha
    }

    /// Whether the subject is better or worse than the reference.
    #[must_use]
    pub fn decision(&self) -> Decision {
        match (self.shows(0.0, true), self.shows(0.0, false)) {
            (true, false) => Decision::Better,
            (false, true) => Decision::Worse,
            // Both can only be shown by a sequence that has turned: nothing is decided then.
            _ => Decision::Undecided,
        }
    }

    /// Whether the subject is worse than the reference by `margin` or more.
    #[must_use]
    pub fn against_margin(&self, margin: f64) -> Margin {
        match (self.shows(-margin, true), self.shows(-margin, false)) {
            (true, false) => Margin::NotWorse,
            (false, true) => Margin::Worse,
            _ => Margin::Undecided,
        }
    }

    /// Means that nothing so far speaks against, at any moment.
    #[must_use]
    pub fn interval(&self) -> Interval {
        let mean = |place: usize| -1.0 + 2.0 * super::count(place) / super::count(GRID);
        let open = |place: &usize| !self.shows(mean(*place), true) && !self.shows(mean(*place), false);
        let low = (0..=GRID).find(open).map_or(1.0, |place| mean(place.saturating_sub(1)));
        let high = (0..=GRID).rev().find(open).map_or(-1.0, |place| mean((place + 1).min(GRID)));
        Interval { low, high }
    }

    /// About how many more pairs like those so far it takes until something is shown of `mean`. None: the seen pairs say nothing, or
    /// more than `most`.
    #[must_use]
    pub fn more_pairs(&self, mean: f64, most: usize) -> Option<usize> {
        if self.seen.is_empty() {
            return None;
        }
        let mut longer = self.clone();
        for more in 0..=most {
            if longer.shows(mean, true) || longer.shows(mean, false) {
                return Some(more);
            }
            longer.push(self.seen[more % self.seen.len()]);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// So many campaigns of pairs of agents that pass with these chances, looked at after every pair: how often `wrong` came true.
    fn simulated(campaigns: u32, pairs: usize, rates: (f64, f64), stops: impl Fn(&Sequence) -> bool) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut stopped = 0_u32;
        for _ in 0..campaigns {
            let mut sequence = Sequence::new(0.05);
            for _ in 0..pairs {
                let passed = |chance: f64, random: &mut ChaCha8Rng| f64::from(u8::from(random.random_bool(chance)));
                let (subject, reference) = (passed(rates.0, &mut random), passed(rates.1, &mut random));
                sequence.push(subject - reference);
            }
            // The wealth remembers its largest: one look at the end sees what any look on the way would have.
            stopped += u32::from(stops(&sequence));
        }
        f64::from(stopped) / f64::from(campaigns)
    }

    #[test]
    fn looking_always_is_wrong_no_more_often() {
        let decided = |sequence: &Sequence| sequence.shows(0.0, true) || sequence.shows(0.0, false);
        for rates in [(0.9, 0.9), (0.5, 0.5)] {
            let wrong = simulated(10_000, 60, rates, decided);
            assert!(wrong <= 0.05, "{wrong} of equal agents at {rates:?}");
        }
        // Worse by exactly the margin, and called not worse.
        let wrong = simulated(10_000, 60, (0.8, 0.9), |sequence| sequence.shows(-0.1, true));
        assert!(wrong <= 0.025, "{wrong}");
    }

    #[test]
    fn what_is_so_is_seen() {
        let seen = simulated(400, 100, (0.5, 0.9), |sequence| sequence.decision() == Decision::Worse);
        assert!(seen > 0.9, "{seen}");
        let seen = simulated(400, 200, (0.95, 0.95), |sequence| sequence.against_margin(0.2) == Margin::NotWorse);
        assert!(seen > 0.8, "{seen}");
    }

    #[test]
    fn an_interval_narrows_and_holds_the_mean() {
        let mut sequence = Sequence::new(0.05);
        assert_eq!(sequence.interval(), Interval { low: -1.0, high: 1.0 });
        for turn in 0..200 {
            sequence.push(if turn % 4 == 0 { 1.0 } else { 0.0 });
        }
        let found = sequence.interval();
        assert!(found.holds(0.25) && found.low > 0.1 && found.high < 0.45, "{found:?}");
        assert_eq!(sequence.more_pairs(0.0, 1000), Some(0));
        let mut short = Sequence::new(0.05);
        short.push(1.0);
        short.push(0.0);
        assert!(short.more_pairs(0.0, 1000).is_some_and(|more| (5..100).contains(&more)));
        assert_eq!(short.more_pairs(0.5, 50), None, "half is what was seen");
    }
}
