//! CPU load of a node without resource limits: the process of the node is stopped for a part of the time.
//!
//! Such a node is not reported as paused, since "paused" is a state that a container engine reports. If the runner dies, the supervisor
//! kills the node, even if the process is stopped.

use std::time::{Duration, Instant};

use nix::libc;

use super::NodeActor;
use crate::supervisor::Reach;
use chaosrun_cluster::fault_control::{Stress, StressReading};

/// Length of one cycle of the schedule, in which the node is stopped once.
const PERIOD: Duration = Duration::from_millis(100);
/// Largest share of the time in which the node is stopped. A node that is stopped all the time could not handle a request to end.
const MOST: f64 = 0.98;

/// Schedule that alternately stops and continues the processes of a node.
#[derive(Debug)]
pub(super) struct Duty {
    /// Share of the time in which the node is stopped, from 0 to `MOST`.
    share: f64,
    /// Time at which the node is stopped or continued next.
    next: Instant,
    /// Start of the current stop; `None` if the node is not stopped.
    standing: Option<Instant>,
    stood: Duration,
}

impl Duty {
    /// Creates a schedule that continues the counters of the schedule `before`. Returns `None` for a load of zero.
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

    /// Records at time `now` that the node is stopped.
    pub fn stand(&mut self, now: Instant) {
        self.standing.get_or_insert(now);
        self.next = now + PERIOD.mul_f64(self.share);
    }

    /// Records at time `now` that the node continues.
    pub fn go(&mut self, now: Instant) {
        self.stood += self.standing.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.next = now + PERIOD.mul_f64(1.0 - self.share);
    }

    /// Records at time `now` that the node does not run, so that the schedule cannot stop it.
    pub fn idle(&mut self, now: Instant) {
        self.go(now);
        self.next = now + PERIOD;
    }

    /// Returns the current reading of the load. The parameter `works` is true if the load is applied to a running node.
    pub fn reading(&self, works: bool, now: Instant) -> StressReading {
        let standing = self.standing.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        StressReading { running: works, used: self.stood + standing, memory: 0 }
    }
}

impl NodeActor {
    pub(super) async fn stress(&mut self, stress: Option<Stress>) {
        let before = self.duty.take();
        self.duty = stress.and_then(|stress| Duty::new(stress, before.as_ref(), Instant::now()));
        if let (None, true, Some(process)) = (&self.duty, before.is_some_and(|duty| duty.stands()), &self.process) {
            // An error means that the process has already ended.
            let _ = self.shared.client.signal(process.tree, libc::SIGCONT, Reach::Tree).await;
        }
    }

    /// Stops or continues the process of the node, according to the schedule.
    pub(super) async fn turn(&mut self) {
        let tree = self.process.as_ref().filter(|_| !self.paused && self.closed.is_none()).map(|process| process.tree);
        let Some(duty) = &mut self.duty else { return };
        // The process group gets the signal at once. The answer of the supervisor arrives after all other processes got the signal.
        let now = Instant::now();
        let Some(tree) = tree else { return duty.idle(now) };
        let signal = if duty.stands() { libc::SIGCONT } else { libc::SIGSTOP };
        // An error means that the process has ended, which is reported separately.
        let delivered = self.shared.client.signal(tree, signal, Reach::Tree).await;
        if signal == libc::SIGSTOP && delivered.is_ok() { duty.stand(now) } else { duty.go(now) }
    }

    /// Records that the schedule has not stopped the node, because the node does not run or is paused by another order.
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
    fn node_is_stopped_for_its_share_of_each_period() {
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
