//! Live statistics of a workload: raw latencies in slots of 100 ms, so that the percentiles of any window are exact.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::history::{OperationOutcome, RecordedOperation};
use super::impact;
use chaosrun_probe::Figures;

/// Length of a statistics slot. Windows have this resolution.
pub const SLOT: Duration = Duration::from_millis(100);
/// Length of the longest window in slots; the window is one minute long.
const SLOTS: usize = 600;

/// Statistics of all operations of a workload within a window of time, reads and writes together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WorkloadStats {
    /// Acknowledged operations per second.
    pub rate: f64,
    /// Share of completed operations that were not served, from 0 to 1. `None` if no operation completed.
    pub error_rate: Option<f64>,
    /// Median of the seconds from the due time of an operation to its acknowledgement. `None` if no operation was acknowledged.
    pub p50_s: Option<f64>,
    pub p99_s: Option<f64>,
    /// Client error-seconds since the start of the workload, not only within the window; see [`impact::impact`].
    pub impact_s: f64,
    /// Number of acknowledged operations within the window.
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown: u64,
    /// Error text of the newest operation within the window that was not served. `None` if no such error is known.
    pub last_error: Option<String>,
}

/// Counts and latencies of the operations that completed within one slot of 100 ms.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// Latencies of acknowledged operations in microseconds.
    pub(super) latencies_us: Vec<u32>,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    /// Number of compare-and-puts that found another value, and of requests refused by a rate limiter. Their users were served.
    pub(super) mismatch: u64,
    /// Number of operations that were not served in time. Late answers are included.
    impact: u64,
    /// Actual length of the slot, since a busy machine closes a slot late.
    pub(super) length: Duration,
    problem: Option<String>,
}

impl Slot {
    fn count(&mut self, operation: &RecordedOperation, problem: Option<String>, timeout_us: u64) {
        if !operation.outcome.served() {
            self.problem = problem;
        }
        match operation.outcome {
            OperationOutcome::Acknowledged => self.latencies_us.push(u32::try_from(operation.latency_us()).unwrap_or(u32::MAX)),
            OperationOutcome::Mismatch => self.mismatch += 1,
            OperationOutcome::Failed | OperationOutcome::Missed => self.failed += 1,
            OperationOutcome::Unknown => self.unknown += 1,
        }
        self.impact += u64::from(!impact::served(operation, timeout_us));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latencies_us.extend(&other.latencies_us);
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.mismatch += other.mismatch;
        self.impact += other.impact;
        self.length += other.length;
        if self.problem.is_none() {
            self.problem.clone_from(&other.problem);
        }
    }

    /// Returns the quantile `q` of the latencies of acknowledged operations, in microseconds (nearest rank).
    pub(super) fn quantile_us(&mut self, q: f64) -> Option<u32> {
        let count = self.latencies_us.len();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the list")]
        let rank = ((q * count as f64).ceil() as usize).clamp(1, count.max(1)) - 1;
        (count > 0).then(|| *self.latencies_us.select_nth_unstable(rank).1)
    }
}

/// Statistics of the last minute, published slot by slot.
#[derive(Debug, Clone)]
struct Recent {
    /// Closed slots in the order of time, the newest last.
    slots: VecDeque<Arc<Slot>>,
    /// Time at which the newest slot was closed.
    until: Instant,
    not_served: u64,
}

/// Counters of completed operations, written only by the collector.
#[derive(Debug)]
pub(super) struct Window {
    recent: watch::Sender<Arc<Recent>>,
    current: Slot,
}

/// Reader of the live statistics of a workload. Reading never waits for the collector.
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

    pub(super) fn count(&mut self, operation: &RecordedOperation, problem: Option<String>, timeout_us: u64) {
        self.current.count(operation, problem, timeout_us);
    }

    /// Publishes the slot that ends at the time `now`, and returns the slot.
    pub(super) fn close_slot(&mut self, now: Instant) -> Arc<Slot> {
        let mut slot = std::mem::take(&mut self.current);
        slot.length = now.saturating_duration_since(self.recent.borrow().until);
        let slot = Arc::new(slot);
        let closed = Arc::clone(&slot);
        self.recent.send_modify(|recent| {
            let recent = Arc::make_mut(recent);
            recent.not_served += closed.impact;
            if recent.slots.len() == SLOTS {
                recent.slots.pop_front();
            }
            recent.slots.push_back(closed);
            recent.until = now;
        });
        slot
    }
}

impl Figures for StatsReader {
    fn window(&self, window: Duration) -> serde_json::Value {
        serde_json::to_value(self.window(window)).unwrap_or_default()
    }

    fn age(&self) -> Duration {
        self.age()
    }
}

impl StatsReader {
    /// Returns the statistics of the last `window`, in whole slots of 100 ms. The window covers at least one slot, at most a minute, and at
    /// most the time since the start.
    #[must_use]
    pub fn window(&self, window: Duration) -> WorkloadStats {
        let recent = Arc::clone(&self.recent.borrow());
        let wanted = usize::try_from(window.as_millis().div_ceil(SLOT.as_millis())).unwrap_or(SLOTS).clamp(1, SLOTS);
        let mut all = Slot::default();
        recent.slots.iter().rev().take(wanted).for_each(|slot| all.add(slot));
        // The window has a length of zero before the first slot is closed.
        let seconds = all.length.max(Duration::from_millis(1)).as_secs_f64();
        let acknowledged = all.latencies_us.len();
        let completed = count(acknowledged) + all.mismatch + all.failed + all.unknown;
        WorkloadStats {
            rate: float(count(acknowledged)) / seconds,
            error_rate: (completed > 0).then(|| float(all.impact) / float(completed)),
            p50_s: all.quantile_us(0.5).map(|us| f64::from(us) / 1e6),
            p99_s: all.quantile_us(0.99).map(|us| f64::from(us) / 1e6),
            impact_s: impact::from_count(usize::try_from(recent.not_served).unwrap_or(usize::MAX), self.rate).as_secs_f64(),
            acknowledged: count(acknowledged),
            failed: all.failed,
            unknown: all.unknown,
            last_error: all.problem,
        }
    }

    /// Waits until newer statistics are published. Never returns after the workload has ended.
    pub async fn changed(&mut self) {
        if self.recent.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the time since the newest statistics were published. It keeps growing after the workload has ended.
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
    use crate::history::OperationValue;
    use crate::sequence::OperationVerb;

    #[test]
    fn window_covers_its_slots_and_impact_covers_all() {
        let start = Instant::now();
        let (mut window, stats) = Window::new(100.0, start);
        assert_eq!(stats.window(Duration::from_secs(1)), WorkloadStats::default(), "nothing yet, nothing invented");
        let mut complete = |latency_ms: u64, outcome| {
            let operation = RecordedOperation {
                client: 0,
                verb: OperationVerb::Write,
                outcome,
                key: 0,
                value: 0,
                seen: OperationValue::Nothing,
                intended_us: 0,
                invoked_us: 0,
                completed_us: latency_ms * 1000,
            };
            window.count(&operation, None, 1_000_000);
        };
        for latency in 1..=98 {
            complete(latency, OperationOutcome::Acknowledged);
        }
        complete(2000, OperationOutcome::Acknowledged);
        complete(1, OperationOutcome::Failed);
        window.close_slot(start + SLOT);
        let first = stats.window(SLOT);
        assert_eq!((first.acknowledged, first.failed, first.unknown), (99, 1, 0));
        assert_eq!((first.p50_s, first.p99_s), (Some(0.05), Some(2.0)));
        assert_eq!(first.error_rate, Some(0.02), "the late answer and the failed one");
        assert!((first.rate - 990.0).abs() < 1e-9 && (first.impact_s - 0.02).abs() < 1e-9);

        window.close_slot(start + SLOT * 2);
        let second = stats.window(SLOT);
        assert_eq!((second.acknowledged, second.error_rate, second.p50_s), (0, None, None));
        assert!((second.impact_s - 0.02).abs() < 1e-9);
        assert_eq!(stats.window(Duration::from_secs(10)).acknowledged, 99);
    }
}
