//! To look again and again while pairs come in, and to stop when enough was seen, without being wrong more often for it.
//!
//! The wealth of one who bets against a hypothesis cannot be expected to grow while it is true: that it ever becomes 1 / alpha has a chance
//! of at most alpha, however often one looks (J. Ville, 1939; I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by
//! betting", 2024). Bets of many sizes are made at once, each with an equal part of the wealth.
//!
//! Where pairs are of several kinds (scenarios) that take turns, the hypothesis is about their mean. Over a whole turn the wealth cannot be
//! expected to grow (the product of the means of a turn is at most that of their mean, to the power of how many they are); within one it
//! can, when those that the subject is good at come first. So it is looked at between turns alone.

use std::collections::HashSet;
use std::hash::Hash;

use super::Interval;

/// Sizes of bets, from careful to all that may be lost.
pub(super) const BETS: [f64; 12] = [0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.95];
/// The ends of an interval are known to 2 / 2^16.
pub(super) const HALVINGS: usize = 16;

/// Who bets that the mean is above, or below, a value.
#[derive(Debug, Clone, PartialEq)]
struct Wager {
    mean: f64,
    above: bool,
    /// What has become of 1, by the size of the bet.
    parts: [f64; BETS.len()],
    /// The largest that it was when it was looked at.
    most: f64,
}

impl Wager {
    const fn new(mean: f64, above: bool) -> Self {
        Self { mean, above, parts: [1.0; BETS.len()], most: 1.0 }
    }

    fn push(&mut self, value: f64) {
        let (room, gain) = if self.above { (1.0 + self.mean, value - self.mean) } else { (1.0 - self.mean, self.mean - value) };
        for (part, bet) in self.parts.iter_mut().zip(BETS) {
            // Nothing can be lost of a bet against a mean that cannot be.
            *part = if room > 0.0 { *part * (1.0 + bet / room * gain) } else { f64::INFINITY };
        }
    }

    fn look(&mut self) {
        self.most = self.most.max(self.parts.iter().sum::<f64>() / super::count(BETS.len()));
    }
}

/// Differences of pairs in the order they came in, each from -1 to 1, and when they were looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    alpha: f64,
    margin: f64,
    seen: Vec<f64>,
    /// Of how many.
    looks: Vec<usize>,
    better: Wager,
    worse: Wager,
    not_worse: Wager,
    decided: Option<Decision>,
}

/// What has been shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Better,
    Worse,
    /// By the margin or more.
    NotWorse,
}

impl Sequence {
    /// `alpha`: how often any of all that is said may be wrong. `margin`: what is taken for no loss, above 0.
    #[must_use]
    pub const fn new(alpha: f64, margin: f64) -> Self {
        Self {
            alpha,
            margin,
            seen: Vec::new(),
            looks: Vec::new(),
            better: Wager::new(0.0, true),
            worse: Wager::new(0.0, false),
            not_worse: Wager::new(-margin, true),
            decided: None,
        }
    }

    /// Takes in one more pair: what is beyond -1 and 1 counts as those.
    pub fn push(&mut self, difference: f64) {
        let difference = difference.clamp(-1.0, 1.0);
        self.seen.push(difference);
        for wager in [&mut self.better, &mut self.worse, &mut self.not_worse] {
            wager.push(difference);
        }
    }

    /// Looks at what there is. The first decision stays.
    pub fn look(&mut self) -> Option<Decision> {
        if !self.seen.is_empty() && self.looks.last() != Some(&self.seen.len()) {
            self.looks.push(self.seen.len());
        }
        for wager in [&mut self.better, &mut self.worse, &mut self.not_worse] {
            wager.look();
        }
        let shown = [(&self.better, Decision::Better), (&self.worse, Decision::Worse), (&self.not_worse, Decision::NotWorse)];
        let first = shown.into_iter().find(|(wager, _)| wager.most >= self.enough()).map(|(_, decision)| decision);
        self.decided = self.decided.or(first);
        self.decided
    }

    /// The wealth that shows something: the error is shared by both sides.
    fn enough(&self) -> f64 {
        2.0 / self.alpha
    }

    #[must_use]
    pub const fn pairs(&self) -> usize {
        self.seen.len()
    }

    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        super::differences::mean(&self.seen)
    }

    #[must_use]
    pub const fn decision(&self) -> Option<Decision> {
        self.decided
    }

    /// How often two equal agents would ever have been as far apart when one looks: at most.
    #[must_use]
    pub fn p(&self) -> f64 {
        (2.0 / self.better.most.max(self.worse.most)).min(1.0)
    }

    /// Whether `rest` more pairs could decide, however they fall.
    #[must_use]
    pub fn can_decide(&self, rest: usize) -> bool {
        let shows = |wager: &Wager, value: f64| {
            let mut wager = wager.clone();
            (0..rest).any(|_| {
                wager.push(value);
                wager.look();
                wager.most >= self.enough()
            })
        };
        // Whoever bets gains most of pairs that are all as it says.
        self.decided.is_some() || shows(&self.better, 1.0) || shows(&self.worse, -1.0) || shows(&self.not_worse, 1.0)
    }

    /// Whether it was shown that the mean is above `mean`, or below.
    fn shows(&self, mean: f64, above: bool) -> bool {
        let mut wager = Wager::new(mean, above);
        let mut looks = self.looks.iter().peekable();
        for (place, value) in self.seen.iter().enumerate() {
            wager.push(*value);
            if looks.next_if(|look| **look == place + 1).is_some() {
                wager.look();
            }
        }
        wager.most >= self.enough()
    }

    /// Means that nothing speaks against, whenever it was looked.
    #[must_use]
    pub fn interval(&self) -> Interval {
        // Who bets on more than a smaller mean gains more: what is shown of a mean is shown of all beyond it.
        let edge = |above: bool| {
            let (mut shown, mut open) = if above { (-1.0, 1.0) } else { (1.0, -1.0) };
            for _ in 0..HALVINGS {
                let middle = f64::midpoint(shown, open);
                if self.shows(middle, above) { shown = middle } else { open = middle }
            }
            shown
        };
        let (low, high) = (edge(true), edge(false));
        // Only a sequence that has turned shows both: it says nothing of what is between.
        Interval { low: low.min(high), high: high.max(low) }
    }

    /// About how many more pairs like those so far it takes until something is decided. None: the seen pairs say nothing, or more than
    /// `most`.
    #[must_use]
    pub fn more_pairs(&self, most: usize) -> Option<usize> {
        if self.decided.is_some() || self.seen.is_empty() {
            return self.decided.map(|_| 0);
        }
        let mut wagers = [self.better.clone(), self.worse.clone(), self.not_worse.clone()];
        // After as many pairs again as there were, each part is multiplied once more by what has become of it. As a function of how often,
        // the sum is convex and begins at 1: where it is once enough, it stays so.
        let enough = |times: usize| {
            let times = i32::try_from(times + 1).unwrap_or(i32::MAX);
            let grown = |wager: &Wager| wager.parts.iter().map(|part| part.powi(times)).sum::<f64>() / super::count(BETS.len());
            wagers.iter().any(|wager| grown(wager) >= self.enough())
        };
        let (mut few, mut many) = (0, most / self.seen.len() + 1);
        if !enough(many) {
            return None;
        }
        while many - few > 1 {
            let middle = usize::midpoint(few, many);
            if enough(middle) { many = middle } else { few = middle }
        }
        // Within the last of them, pair by pair.
        for wager in &mut wagers {
            wager.parts = wager.parts.map(|part| part.powi(i32::try_from(few + 1).unwrap_or(i32::MAX)));
        }
        let decides = |difference: &f64| {
            wagers.iter_mut().any(|wager| {
                wager.push(*difference);
                wager.look();
                wager.most >= self.enough()
            })
        };
        let within = self.seen.iter().position(decides).map_or(self.seen.len(), |place| place + 1);
        Some(few * self.seen.len() + within).filter(|more| *more <= most)
    }
}

/// For each of those that take turns, whether a turn is over after it: where what it has had already comes again, and at the end.
#[must_use]
pub fn turns<T: Eq + Hash>(kinds: impl Iterator<Item = T>) -> Vec<bool> {
    let mut ends: Vec<bool> = Vec::new();
    let mut had = HashSet::new();
    for kind in kinds {
        if had.contains(&kind) {
            had.clear();
            ends.last_mut().into_iter().for_each(|last| *last = true);
        }
        had.insert(kind);
        ends.push(false);
    }
    ends.last_mut().into_iter().for_each(|last| *last = true);
    ends
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn passed(chance: f64, random: &mut ChaCha8Rng) -> f64 {
        f64::from(u8::from(random.random_bool(chance)))
    }

    /// So many campaigns of pairs of agents that pass with these chances, looked at after every pair: how often `wrong` came true.
    fn simulated(campaigns: u32, pairs: usize, rates: (f64, f64), margin: f64, wrong: impl Fn(&Sequence) -> bool) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut stopped = 0_u32;
        for _ in 0..campaigns {
            let mut sequence = Sequence::new(0.05, margin);
            for _ in 0..pairs {
                let (subject, reference) = (passed(rates.0, &mut random), passed(rates.1, &mut random));
                sequence.push(subject - reference);
                sequence.look();
            }
            stopped += u32::from(wrong(&sequence));
        }
        f64::from(stopped) / f64::from(campaigns)
    }

    #[test]
    fn looking_always_is_wrong_no_more_often() {
        for rates in [(0.9, 0.9), (0.5, 0.5)] {
            let apart = |sequence: &Sequence| sequence.p() <= 0.05;
            let wrong = simulated(10_000, 60, rates, 0.1, apart);
            assert!(wrong <= 0.05, "{wrong} of equal agents at {rates:?}");
        }
        // Worse by exactly the margin, and called not worse.
        let wrong =
            simulated(10_000, 60, (0.8, 0.9), 0.1, |sequence| matches!(sequence.decision(), Some(Decision::NotWorse | Decision::Better)));
        assert!(wrong <= 0.025, "{wrong}");
    }

    /// Forty scenarios, each a pair a turn: the subject passes the first half of them alone, and the reference the rest. On the whole they
    /// are alike. Whoever looks within a turn sees a better subject every time.
    #[test]
    fn scenarios_that_take_turns_are_looked_at_between_turns() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        let (mut between, mut within) = (0, 0);
        for _ in 0..2_000 {
            let (mut patient, mut hasty) = (Sequence::new(0.05, 0.1), Sequence::new(0.05, 0.1));
            for _ in 0..3 {
                for scenario in 0..40 {
                    let (subject, reference) = if scenario < 20 { (0.9, 0.1) } else { (0.1, 0.9) };
                    let difference = passed(subject, &mut random) - passed(reference, &mut random);
                    patient.push(difference);
                    hasty.push(difference);
                    hasty.look();
                }
                patient.look();
            }
            between += u32::from(patient.p() <= 0.05);
            within += u32::from(hasty.p() <= 0.05);
        }
        assert!(between <= 100 && within > 1_900, "{between} and {within} of 2000");
    }

    #[test]
    fn a_turn_is_over_when_every_scenario_has_had_its_own() {
        let ends = |kinds: &str| turns(kinds.chars()).iter().map(|ends| if *ends { '.' } else { '-' }).collect::<String>();
        assert_eq!([ends("abcabcab"), ends("aaa"), ends("")], ["--.--.-.", "...", ""]);
    }

    #[test]
    fn what_is_so_is_seen() {
        let seen = simulated(400, 100, (0.5, 0.9), 0.1, |sequence| sequence.decision() == Some(Decision::Worse));
        assert!(seen > 0.9, "{seen}");
        let seen = simulated(400, 200, (0.95, 0.95), 0.2, |sequence| sequence.decision() == Some(Decision::NotWorse));
        assert!(seen > 0.8, "{seen}");
    }

    #[test]
    fn an_interval_narrows_and_holds_the_mean() {
        let mut sequence = Sequence::new(0.05, 0.1);
        assert_eq!(sequence.interval(), Interval { low: -1.0, high: 1.0 });
        for turn in 0..200 {
            sequence.push(if turn % 4 == 0 { 1.0 } else { 0.0 });
            sequence.look();
        }
        let found = sequence.interval();
        assert!(found.holds(0.25) && found.low > 0.1 && found.high < 0.45, "{found:?}");
        assert_eq!(sequence.more_pairs(1000), Some(0));
    }

    #[test]
    fn how_many_more_it_takes_and_whether_any_can() {
        let mut short = Sequence::new(0.05, 0.1);
        for _ in 0..6 {
            short.push(1.0);
        }
        assert_eq!((short.decision(), short.look()), (None, None), "2^6 is not enough of twelve bets");
        let more = short.more_pairs(1000).unwrap();
        assert!((1..10).contains(&more), "{more}");
        assert!(short.can_decide(more) && !short.can_decide(more - 1));
        assert!(!Sequence::new(0.05, 0.1).can_decide(5) && Sequence::new(0.05, 0.1).can_decide(30));
        assert_eq!(Sequence::new(0.05, 0.1).more_pairs(9), None);
        let mut alike = Sequence::new(0.05, 0.1);
        while alike.look().is_none() {
            alike.push(0.0);
        }
        assert_eq!((alike.pairs(), alike.decision()), (56, Some(Decision::NotWorse)));
    }
}
