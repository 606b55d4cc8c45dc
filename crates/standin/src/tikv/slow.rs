//! Slow score of a store: 1 while the disk answers in time, up to 100 while the disk is slow. The rule is that of TiKV's `slow_score.rs`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Duration from which a write to the log counts as slow. The scale does not apply, since the duration is that of a real disk.
const SLOW: Duration = Duration::from_millis(100);
/// Share of slow writes in a round from which the slow score doubles.
const FULL_RATIO: f64 = 0.1;

/// Slow score of a store. Counts the writes of a round, and updates the score at the end of each round.
#[derive(Debug)]
pub struct SlowScore(Mutex<State>);

#[derive(Debug)]
struct State {
    score: f64,
    writes: u32,
    slow: u32,
    round_began: Instant,
    round: Duration,
    /// Time in which a score of 100 falls to 1 if no write is slow.
    recovery: Duration,
}

impl SlowScore {
    /// Creates the score. TiKV uses a `round` of 10 s and a `recovery` of 5 min.
    #[must_use]
    pub fn new(round: Duration, recovery: Duration) -> Self {
        Self(Mutex::new(State { score: 1.0, writes: 0, slow: 0, round_began: Instant::now(), round, recovery }))
    }

    pub fn observe(&self, took: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.writes += 1;
        state.slow += u32::from(took > SLOW);
        state.roll();
    }

    /// Returns the current slow score, from 1 to 100.
    #[must_use]
    pub fn value(&self) -> f64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.roll();
        state.score
    }
}

impl State {
    fn roll(&mut self) {
        let elapsed = self.round_began.elapsed();
        if elapsed >= self.round {
            self.close(elapsed);
        }
    }

    /// Updates the score at the end of a round that lasted `elapsed`.
    fn close(&mut self, elapsed: Duration) {
        if self.slow == 0 {
            let fall = 100.0 * elapsed.as_secs_f64() / self.recovery.as_secs_f64();
            self.score = (self.score - fall).max(1.0);
        } else {
            let ratio = f64::from(self.slow) / f64::from(self.writes);
            self.score = (self.score * (1.0 + (ratio / FULL_RATIO).min(1.0))).min(100.0);
        }
        (self.writes, self.slow, self.round_began) = (0, 0, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_writes_double_the_score_and_fast_ones_reduce_it() {
        let (round, recovery) = (Duration::from_secs(10), Duration::from_secs(300));
        let score = SlowScore::new(round, recovery);
        for expected in [2, 4, 8, 16, 32, 64, 100, 100] {
            score.observe(SLOW * 2);
            let mut state = score.0.lock().unwrap();
            state.close(round);
            assert_eq!(format!("{}", state.score), expected.to_string());
        }
        score.0.lock().unwrap().close(recovery / 2);
        assert_eq!(format!("{}", score.value()), "50");
        score.0.lock().unwrap().close(recovery);
        assert_eq!(format!("{}", score.value()), "1");
    }
}
