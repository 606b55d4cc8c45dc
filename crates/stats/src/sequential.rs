//! Anytime-valid sequential test. It evaluates the pairs while they arrive and can stop early without a higher error rate.
//!
//! The wealth of a bettor against a hypothesis is not expected to grow if the hypothesis is true. So the probability that the wealth ever
//! reaches 1 / alpha is at most alpha, however often one looks (J. Ville, 1939; I. Waudby-Smith, A. Ramdas, "Estimating means of bounded
//! random variables by betting", 2024). Bets of many sizes run at once, each with an equal part of the wealth.
//!
//! Pairs of several kinds (scenarios) may take turns. One turn has one pair of each kind, and the hypothesis is about the mean over the
//! kinds. Over a whole turn the wealth is not expected to grow. The reason: the product of the n expected factors of a turn is at most the
//! n-th power of their average. Within a turn the wealth may grow, if the kinds at which the subject is good come first. So the test looks
//! only between turns.

use std::collections::HashSet;
use std::hash::Hash;

use super::Interval;

/// Sizes of the bets, as shares of the largest possible stake.
pub(super) const BETS: [f64; 12] = [0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.95];
/// Number of bisection steps for the ends of an interval, which give a precision of 2 / 2^16.
pub(super) const HALVINGS: usize = 16;

/// Betting process against one hypothesis: a bettor bets that the mean is above, or below, a value.
#[derive(Debug, Clone, PartialEq)]
struct BettingEProcess {
    mean: f64,
    above: bool,
    /// Wealth of the bettor per bet size. Each value starts at 1.
    parts: [f64; BETS.len()],
    /// Largest mean of `parts` at any evaluation so far.
    most: f64,
}

impl BettingEProcess {
    const fn new(mean: f64, above: bool) -> Self {
        Self { mean, above, parts: [1.0; BETS.len()], most: 1.0 }
    }

    fn push(&mut self, value: f64) {
        let (room, gain) = if self.above { (1.0 + self.mean, value - self.mean) } else { (1.0 - self.mean, self.mean - value) };
        for (part, bet) in self.parts.iter_mut().zip(BETS) {
            // A bet against an impossible mean cannot lose.
            *part = if room > 0.0 { *part * (1.0 + bet / room * gain) } else { f64::INFINITY };
        }
    }

    fn look(&mut self) {
        self.most = self.most.max(self.parts.iter().sum::<f64>() / super::count(BETS.len()));
    }
}

/// Differences of pairs, each from -1 to 1, in order of arrival, with the evaluations of the sequential test.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedSequence {
    alpha: f64,
    margin: f64,
    seen: Vec<f64>,
    /// Number of pairs at each evaluation of the test.
    looks: Vec<usize>,
    better: BettingEProcess,
    worse: BettingEProcess,
    not_worse: BettingEProcess,
    decided: Option<SequentialDecision>,
}

/// Decision of the sequential test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SequentialDecision {
    Better,
    Worse,
    /// The subject is not worse by the margin or more. It may be better, equal, or worse by less than the margin.
    NotWorse,
}

impl PairedSequence {
    /// Creates an empty sequence. `alpha` is the total error rate of all decisions at all evaluations. `margin` is the non-inferiority
    /// margin, above 0.
    #[must_use]
    pub const fn new(alpha: f64, margin: f64) -> Self {
        Self {
            alpha,
            margin,
            seen: Vec::new(),
            looks: Vec::new(),
            better: BettingEProcess::new(0.0, true),
            worse: BettingEProcess::new(0.0, false),
            not_worse: BettingEProcess::new(-margin, true),
            decided: None,
        }
    }

    /// Adds the difference of one pair. Values outside -1 to 1 are clamped.
    pub fn push(&mut self, difference: f64) {
        let difference = difference.clamp(-1.0, 1.0);
        self.seen.push(difference);
        for wager in [&mut self.better, &mut self.worse, &mut self.not_worse] {
            wager.push(difference);
        }
    }

    /// Evaluates the test on the pairs so far. Returns the decision, if any. The first decision is final.
    pub fn look(&mut self) -> Option<SequentialDecision> {
        if !self.seen.is_empty() && self.looks.last() != Some(&self.seen.len()) {
            self.looks.push(self.seen.len());
        }
        for wager in [&mut self.better, &mut self.worse, &mut self.not_worse] {
            wager.look();
        }
        let shown = [
            (&self.better, SequentialDecision::Better),
            (&self.worse, SequentialDecision::Worse),
            (&self.not_worse, SequentialDecision::NotWorse),
        ];
        let first = shown.into_iter().find(|(wager, _)| wager.most >= self.enough()).map(|(_, decision)| decision);
        self.decided = self.decided.or(first);
        self.decided
    }

    /// Returns the wealth that leads to a decision: 2 / alpha, because both directions share the error rate.
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
    pub const fn decision(&self) -> Option<SequentialDecision> {
        self.decided
    }

    /// Returns the anytime-valid p-value: an upper bound of the probability that two equal agents ever differ this much at an evaluation.
    #[must_use]
    pub fn p(&self) -> f64 {
        (2.0 / self.better.most.max(self.worse.most)).min(1.0)
    }

    /// Returns true if some differences of `rest` more pairs would lead to a decision.
    #[must_use]
    pub fn can_decide(&self, rest: usize) -> bool {
        let shows = |wager: &BettingEProcess, value: f64| {
            let mut wager = wager.clone();
            (0..rest).any(|_| {
                wager.push(value);
                wager.look();
                wager.most >= self.enough()
            })
        };
        // A bettor gains most when all pairs have the most favourable value.
        self.decided.is_some() || shows(&self.better, 1.0) || shows(&self.worse, -1.0) || shows(&self.not_worse, 1.0)
    }

    /// Returns true if the evaluations have shown that the mean is above `mean`, or below `mean` if `above` is false.
    fn shows(&self, mean: f64, above: bool) -> bool {
        let mut wager = BettingEProcess::new(mean, above);
        let mut looks = self.looks.iter().peekable();
        for (place, value) in self.seen.iter().enumerate() {
            wager.push(*value);
            if looks.next_if(|look| **look == place + 1).is_some() {
                wager.look();
            }
        }
        wager.most >= self.enough()
    }

    /// Returns the confidence sequence: the interval of all means that no evaluation so far has rejected.
    #[must_use]
    pub fn interval(&self) -> Interval {
        // A bettor gains more against a mean that is further from the values. So when a mean is rejected, all means beyond it are rejected
        // as well.
        let edge = |above: bool| {
            let (mut shown, mut open) = if above { (-1.0, 1.0) } else { (1.0, -1.0) };
            for _ in 0..HALVINGS {
                let middle = f64::midpoint(shown, open);
                if self.shows(middle, above) { shown = middle } else { open = middle }
            }
            shown
        };
        let (low, high) = (edge(true), edge(false));
        // `low` exceeds `high` only if the sequence changed direction. The means between the two ends then stay in the interval.
        Interval { low: low.min(high), high: high.max(low) }
    }

    /// Estimates how many more pairs like the present pairs lead to a decision. Returns `None` if the present pairs do not point to a
    /// decision, or if more than `most` pairs are needed.
    #[must_use]
    pub fn more_pairs(&self, most: usize) -> Option<usize> {
        if self.decided.is_some() || self.seen.is_empty() {
            return self.decided.map(|_| 0);
        }
        let mut wagers = [self.better.clone(), self.worse.clone(), self.not_worse.clone()];
        // After another round of the same pairs each part is multiplied once more by its growth. The sum of the parts is a convex function
        // of the number of rounds and begins at 1. So once the sum is large enough, it stays large enough.
        let enough = |times: usize| {
            let times = i32::try_from(times + 1).unwrap_or(i32::MAX);
            let grown = |wager: &BettingEProcess| wager.parts.iter().map(|part| part.powi(times)).sum::<f64>() / super::count(BETS.len());
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
        // Within the last round, pair by pair.
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

/// Returns for each item whether a turn ends after the item. A turn is a series of items of different kinds. It ends before an item whose
/// kind it already contains, and after the last item.
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

    /// Returns the share of simulated campaigns in which `wrong` becomes true. The agents pass with the given rates, and the test is
    /// evaluated after every pair.
    fn simulated(campaigns: u32, pairs: usize, rates: (f64, f64), margin: f64, wrong: impl Fn(&PairedSequence) -> bool) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut stopped = 0_u32;
        for _ in 0..campaigns {
            let mut sequence = PairedSequence::new(0.05, margin);
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
    fn looking_after_every_pair_keeps_the_error_rate() {
        for rates in [(0.9, 0.9), (0.5, 0.5)] {
            let apart = |sequence: &PairedSequence| sequence.p() <= 0.05;
            let wrong = simulated(10_000, 60, rates, 0.1, apart);
            assert!(wrong <= 0.05, "{wrong} of equal agents at {rates:?}");
        }
        // Worse by exactly the margin, but called not worse.
        let wrong = simulated(10_000, 60, (0.8, 0.9), 0.1, |sequence| {
            matches!(sequence.decision(), Some(SequentialDecision::NotWorse | SequentialDecision::Better))
        });
        assert!(wrong <= 0.025, "{wrong}");
    }

    /// Checks turns with one pair of each of forty scenarios. Only the subject passes the first twenty scenarios, and only the reference
    /// passes the rest, so the agents are equal. An evaluation within a turn would wrongly find a better subject every time.
    #[test]
    fn alternating_scenarios_are_looked_at_between_turns() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        let (mut between, mut within) = (0, 0);
        for _ in 0..2_000 {
            let (mut patient, mut hasty) = (PairedSequence::new(0.05, 0.1), PairedSequence::new(0.05, 0.1));
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
    fn turn_ends_when_every_scenario_has_one_pair() {
        let ends = |kinds: &str| turns(kinds.chars()).iter().map(|ends| if *ends { '.' } else { '-' }).collect::<String>();
        assert_eq!([ends("abcabcab"), ends("aaa"), ends("")], ["--.--.-.", "...", ""]);
    }

    #[test]
    fn true_differences_are_detected() {
        let seen = simulated(400, 100, (0.5, 0.9), 0.1, |sequence| sequence.decision() == Some(SequentialDecision::Worse));
        assert!(seen > 0.9, "{seen}");
        let seen = simulated(400, 200, (0.95, 0.95), 0.2, |sequence| sequence.decision() == Some(SequentialDecision::NotWorse));
        assert!(seen > 0.8, "{seen}");
    }

    #[test]
    fn confidence_sequence_narrows_and_contains_the_mean() {
        let mut sequence = PairedSequence::new(0.05, 0.1);
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
    fn more_pairs_and_can_decide() {
        let mut short = PairedSequence::new(0.05, 0.1);
        for _ in 0..6 {
            short.push(1.0);
        }
        assert_eq!((short.decision(), short.look()), (None, None), "2^6 is not enough of twelve bets");
        let more = short.more_pairs(1000).unwrap();
        assert!((1..10).contains(&more), "{more}");
        assert!(short.can_decide(more) && !short.can_decide(more - 1));
        assert!(!PairedSequence::new(0.05, 0.1).can_decide(5) && PairedSequence::new(0.05, 0.1).can_decide(30));
        assert_eq!(PairedSequence::new(0.05, 0.1).more_pairs(9), None);
        let mut alike = PairedSequence::new(0.05, 0.1);
        while alike.look().is_none() {
            alike.push(0.0);
        }
        assert_eq!((alike.pairs(), alike.decision()), (56, Some(SequentialDecision::NotWorse)));
    }
}
