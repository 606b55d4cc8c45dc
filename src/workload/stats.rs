//! Live statistics: raw latencies in slots of 100 ms, so that any window has exact percentiles.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::history::{Operation, Outcome};
use super::hurt;

/// Length of a slot: the grain of every window.
pub const SLOT: Duration = Duration::from_millis(100);
/// The longest window, in slots: a minute.
const SLOTS: usize = 600;

/// What the users of a workload felt within a window. All operations count, reads and writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WorkloadStats {
    /// Acknowledged operations a second.
    pub rate: f64,
    /// Share of completed operations that were not served: 0 to 1. None when nothing completed.
    pub error_rate: Option<f64>,
    /// Seconds from when an operation was due to its acknowledgement. None when nothing was acknowledged.
    pub p50_s: Option<f64>,
    pub p99_s: Option<f64>,
    /// Client error-seconds since the workload began, not only within the window ([`hurt::hurt`]).
    pub hurt_s: f64,
    /// Within the window.
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown: u64,
    /// What the newest operation that was not served was told, within the window.
    pub last_error: Option<String>,
}

/// What completed within one slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// Of acknowledged operations.
    pub(super) latencies_us: Vec<u32>,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    /// Answered, but neither acknowledged nor failed: the user was served.
    pub(super) mismatch: u64,
    /// Not served, late answers included.
    hurt: u64,
    /// How long the slot really was: a busy machine closes it late.
    pub(super) length: Duration,
    problem: Option<String>,
}

impl Slot {
    fn count(&mut self, operation: &Operation, problem: Option<String>, timeout_us: u64) {
        if !operation.outcome.served() {
            self.problem = problem;
        }
        match operation.outcome {
            Outcome::Acknowledged => self.latencies_us.push(u32::try_from(operation.latency_us()).unwrap_or(u32::MAX)),
            Outcome::Mismatch => self.mismatch += 1,
            Outcome::Failed | Outcome::Missed => self.failed += 1,
            Outcome::Unknown => self.unknown += 1,
        }
        self.hurt += u64::from(!hurt::served(operation, timeout_us));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latencies_us.extend(&other.latencies_us);
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.mismatch += other.mismatch;
        self.hurt += other.hurt;
        self.length += other.length;
        if self.problem.is_none() {
            self.problem.clone_from(&other.problem);
        }
    }

    /// The latency below which the share `q` of acknowledged operations lies (nearest rank).
    pub(super) fn quantile_us(&mut self, q: f64) -> Option<u32> {
        let count = self.latencies_us.len();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the list")]
        let rank = ((q * count as f64).ceil() as usize).clamp(1, count.max(1)) - 1;
        (count > 0).then(|| *self.latencies_us.select_nth_unstable(rank).1)
    }
}

/// The last minute, published slot by slot.
#[derive(Debug, Clone)]
struct Recent {
    /// Closed slots, the newest last.
    slots: VecDeque<Arc<Slot>>,
    /// When the newest slot was closed.
    until: Instant,
    not_served: u64,
}

/// Where completed operations are counted; the collector's end.
#[derive(Debug)]
pub(super) struct Window {
    recent: watch::Sender<Arc<Recent>>,
    current: Slot,
}

/// Statistics for whoever asks, at any time, cheaply.
#[derive(Debug, Clone)]
pub struct StatsReader {
    recent: watch::Receiver<Arc<Recent>>,
    rate: f64,
}

impl Window {
    pub(super) fn new(rate: f64, start: Instant) -> (Self, StatsReader) {
        let first = Recent { slots: VecDeque::new(), until: start, not_served: 0 };
        let (recent, reader) = watch::channel(Arc::new(first));
        (Self { recent, current: Slot::default() }, StatsReader { recent: reader, rate })
    }

    pub(super) fn count(&mut self, operation: &Operation, problem: Option<String>, timeout_us: u64) {
        self.current.count(operation, problem, timeout_us);
    }

    /// Publishes the slot that ends `now` and gives it back.
    pub(super) fn close_slot(&mut self, now: Instant) -> Arc<Slot> {
        let mut slot = std::mem::take(&mut self.current);
        slot.length = now.saturating_duration_since(self.recent.borrow().until);
        let slot = Arc::new(slot);
        let closed = Arc::clone(&slot);
        self.recent.send_modify(|recent| {
            let recent = Arc::make_mut(recent);
            recent.not_served += closed.hurt;
            if recent.slots.len() == SLOTS {
                recent.slots.pop_front();
            }
            recent.slots.push_back(closed);
            recent.until = now;
        });
        slot
    }
}

impl StatsReader {
    /// Over the last `window`, in whole slots of 100 ms, at least one, at most a minute; a run that is younger counts as far as it goes.
    #[must_use]
    pub fn window(&self, window: Duration) -> WorkloadStats {
        let recent = Arc::clone(&self.recent.borrow());
        let wanted = usize::try_from(window.as_millis().div_ceil(SLOT.as_millis())).unwrap_or(SLOTS).clamp(1, SLOTS);
        let mut all = Slot::default();
        recent.slots.iter().rev().take(wanted).for_each(|slot| all.add(slot));
        // Before the first slot is closed there is no time to divide by.
        let seconds = all.length.max(Duration::from_millis(1)).as_secs_f64();
        let acknowledged = all.latencies_us.len();
        let completed = count(acknowledged) + all.mismatch + all.failed + all.unknown;
        WorkloadStats {
            rate: float(count(acknowledged)) / seconds,
            error_rate: (completed > 0).then(|| float(all.hurt) / float(completed)),
            p50_s: all.quantile_us(0.5).map(|us| f64::from(us) / 1e6),
            p99_s: all.quantile_us(0.99).map(|us| f64::from(us) / 1e6),
            hurt_s: hurt::from_count(usize::try_from(recent.not_served).unwrap_or(usize::MAX), self.rate).as_secs_f64(),
            acknowledged: count(acknowledged),
            failed: all.failed,
            unknown: all.unknown,
            last_error: all.problem,
        }
    }

    /// Waits for newer numbers; for ever when the workload has ended.
    pub async fn changed(&mut self) {
        if self.recent.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How long ago the newest numbers were taken: stale when the workload has ended.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.recent.borrow().until.elapsed()
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::history::Seen;
    use crate::workload::sequence::Verb;

    #[test]
    fn a_window_sees_its_slots_alone_and_hurt_sees_all() {
        let start = Instant::now();
        let (mut window, stats) = Window::new(100.0, start);
        assert_eq!(stats.window(Duration::from_secs(1)), WorkloadStats::default(), "nothing yet, nothing invented");
        let mut complete = |latency_ms: u64, outcome| {
            let operation = Operation {
                client: 0,
                verb: Verb::Write,
                outcome,
                key: 0,
                value: 0,
                seen: Seen::Nothing,
                intended_us: 0,
                invoked_us: 0,
                completed_us: latency_ms * 1000,
            };
            window.count(&operation, None, 1_000_000);
        };
        for latency in 1..=98 {
            complete(latency, Outcome::Acknowledged);
        }
        complete(2000, Outcome::Acknowledged);
        complete(1, Outcome::Failed);
        window.close_slot(start + SLOT);
        let first = stats.window(SLOT);
        assert_eq!((first.acknowledged, first.failed, first.unknown), (99, 1, 0));
        assert_eq!((first.p50_s, first.p99_s), (Some(0.05), Some(2.0)));
        assert_eq!(first.error_rate, Some(0.02), "the late answer and the failed one");
        assert!((first.rate - 990.0).abs() < 1e-9 && (first.hurt_s - 0.02).abs() < 1e-9);

        window.close_slot(start + SLOT * 2);
        let second = stats.window(SLOT);
        assert_eq!((second.acknowledged, second.error_rate, second.p50_s), (0, None, None));
        assert!((second.hurt_s - 0.02).abs() < 1e-9);
        assert_eq!(stats.window(Duration::from_secs(10)).acknowledged, 99);
    }
}
