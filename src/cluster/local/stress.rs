//! A node that is kept busy, as far as that can be done without limits of its own: it stands still for a part of the time.
//!
//! Nobody else sees it as paused: that is a state an engine tells of, and this is none. Should the runner die meanwhile the
//! supervisor kills the node, standing or not.

use std::time::{Duration, Instant};

use nix::libc;

use super::node::Node;
use super::supervisor::Reach;
use crate::cluster::harm::{Stress, StressReading};

/// It stands still once in so long.
const PERIOD: Duration = Duration::from_millis(100);
/// The largest part of the time: a node that always stood still would be a paused one, which could not even end when asked to.
const MOST: f64 = 0.98;

/// Turns between standing still and going on.
#[derive(Debug)]
pub(super) struct Duty {
    /// The part of the time it stands still.
    share: f64,
    /// When the next turn is.
    next: Instant,
    /// It stands still since.
    standing: Option<Instant>,
    stood: Duration,
}

impl Duty {
    /// None: that is no stress at all. What it has done under the one before still counts.
    pub fn new(stress: Stress, before: Option<&Self>, now: Instant) -> Option<Self> {
        let share = (stress.percent / 100.0).clamp(0.0, MOST);
        if share <= 0.0 || stress.cores <= 0.0 {
            return None;
        }
        let (standing, stood) = before.map_or_else(Default::default, |before| (before.standing, before.stood));
        Some(Self { share, next: now, standing, stood })
    }

    pub fn next(&self) -> Instant {
        self.next
    }

    pub fn stands(&self) -> bool {
        self.standing.is_some()
    }

    /// The node stands still from now on, until the next turn.
    pub fn stand(&mut self, now: Instant) {
        self.standing.get_or_insert(now);
        self.next = now + PERIOD.mul_f64(self.share);
    }

    /// The node goes on until the next turn.
    pub fn go(&mut self, now: Instant) {
        self.stood += self.standing.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.next = now + PERIOD.mul_f64(1.0 - self.share);
    }

    /// There is nobody to stand still.
    pub fn idle(&mut self, now: Instant) {
        self.go(now);
        self.next = now + PERIOD;
    }

    /// `works`: the node runs.
    pub fn reading(&self, works: bool, now: Instant) -> StressReading {
        let standing = self.standing.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        StressReading { running: works, used: self.stood + standing, memory: 0 }
    }
}

impl Node {
    pub(super) async fn stress(&mut self, stress: Option<Stress>) {
        let before = self.duty.take();
        self.duty = stress.and_then(|stress| Duty::new(stress, before.as_ref(), Instant::now()));
        if let (None, true, Some(process)) = (&self.duty, before.is_some_and(|duty| duty.stands()), &self.process) {
            // An error means that it has ended.
            let _ = self.shared.client.signal(process.tree, libc::SIGCONT, Reach::Tree).await;
        }
    }

    /// Stands still, or goes on, by its duty.
    pub(super) async fn turn(&mut self) {
        let tree = self.process.as_ref().filter(|_| !self.paused && self.closed.is_none()).map(|process| process.tree);
        let Some(duty) = &mut self.duty else { return };
        // The group gets a signal at once, the answer comes when all the others have it.
        let now = Instant::now();
        let Some(tree) = tree else { return duty.idle(now) };
        let signal = if duty.stands() { libc::SIGCONT } else { libc::SIGSTOP };
        // An error means that it has ended, and will be told.
        let delivered = self.shared.client.signal(tree, signal, Reach::Tree).await;
        if signal == libc::SIGSTOP && delivered.is_ok() { duty.stand(now) } else { duty.go(now) }
    }

    /// It is gone, or stands still for somebody else.
    pub(super) fn not_standing(&mut self) {
        if let Some(duty) = &mut self.duty {
            duty.idle(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_for_its_part_of_each_period() {
        let begin = Instant::now();
        let ms = Duration::from_millis;
        let stress = |cores, percent| Stress { cores, percent, memory: 0 };
        assert!(Duty::new(stress(0.0, 50.0), None, begin).is_none() && Duty::new(stress(1.0, 0.0), None, begin).is_none());
        let mut duty = Duty::new(stress(1.0, 30.0), None, begin).expect("a duty");
        for _ in 0..10 {
            duty.stand(duty.next());
            assert!(duty.stands());
            duty.go(duty.next());
        }
        assert_eq!((duty.next() - begin, duty.stands()), (ms(1000), false));
        assert_eq!(duty.reading(true, duty.next()), StressReading { running: true, used: ms(300), memory: 0 });
        duty.stand(duty.next());
        let mut all = Duty::new(stress(2.0, 100.0), Some(&duty), duty.next()).expect("a duty");
        assert_eq!(all.reading(true, duty.next()).used, ms(330), "it goes on where the one before was");
        all.go(all.next());
        assert!(all.next() - duty.next() == ms(2), "it never stands still for ever");
    }
}
