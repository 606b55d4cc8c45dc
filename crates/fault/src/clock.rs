//! Faults of the clocks that the processes of a node read.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{FELT_WITHIN, FaultContext, FaultFinding, Injection, Way, each};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{ClockReading, NodeClock};

pub(super) const PRELOADED: &[Way] =
    &[Way::plain("library of chaosrun (`LD_PRELOAD`); statically linked programs and Go programs are refused")];

/// Injection of `clock_skew` and `clock_rate`, which change the clocks of nodes.
pub(super) struct Clocked {
    clock: NodeClock,
    before: OnceLock<(ClockReading, Instant)>,
}

impl Clocked {
    pub fn new(offset_us: i64, rate: f64) -> Self {
        Self { clock: NodeClock { offset_us, rate }, before: OnceLock::new() }
    }

    /// Reads the clock of the first target. Returns the measured change of the offset since before the injection, then the requested
    /// change. Both changes are in microseconds.
    async fn look(&self, context: &FaultContext) -> Result<(f64, f64), String> {
        let now = context.cluster.clock(context.first()).await.map_err(|error| error.to_string())?;
        let since = context.began.elapsed().as_secs_f64() * 1e6;
        #[expect(clippy::cast_precision_loss, reason = "a time for people")]
        let (seen, offset) =
            ((now.offset_us - self.before.get().map_or(0, |(before, _)| before.offset_us)) as f64, self.clock.offset_us as f64);
        Ok((seen, offset + since * (self.clock.rate - 1.0)))
    }

    /// Returns the evidence that a result of [`Self::look`] at the clock of `node` gives. Without a reading, no fault counts as felt.
    fn finding(&self, node: &str, look: Result<(f64, f64), String>) -> FaultFinding {
        match look {
            Err(error) => FaultFinding::no(error),
            Ok((seen, asked)) => {
                // A skew below the accuracy of this measurement counts as felt, although no effect was measured.
                let small = self.clock.offset_us.unsigned_abs() < 40_000 && (self.clock.rate - 1.0).abs() < f64::EPSILON;
                // The measurement takes time itself, and the effect of a changed rate is measurable only after a while.
                let ok = (seen - asked).abs() <= asked.abs() * 0.1 + 20_000.0 && asked.abs() >= 40_000.0;
                let detail = format!("the clock of {node} is off by {:.1} ms (asked {:.1} ms)", seen / 1e3, asked / 1e3);
                FaultFinding::new(ok || small, detail).with("offset_ms", seen / 1e3).with("asked_ms", asked / 1e3)
            }
        }
    }
}

#[async_trait]
impl Injection for Clocked {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let now = context.cluster.clock(context.first()).await.map_err(|error| error.to_string())?;
        let _ = self.before.set((now, Instant::now()));
        Ok(format!("the clock of {} was off by {:.1} ms", context.first(), micros_as_ms(now.offset_us)))
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| context.effects.clock(&*context.cluster, &node, &context.id, Some(self.clock)).await).await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        self.felt(context).await
    }

    /// Checks that the processes of the node have read the clock since the injection.
    async fn hit(&self, context: &FaultContext) -> Option<FaultFinding> {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let now = context.cluster.clock(context.first()).await.ok()?;
            let reads = now.reads;
            if reads > 0 || Instant::now() > deadline {
                #[expect(clippy::cast_precision_loss, reason = "a count for people")]
                let number = reads as f64;
                return Some(
                    FaultFinding::new(reads > 0, format!("the processes have read the clock {reads} times")).with("reads", number),
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Checks that a process in the environment of the node sees the change of the clock.
    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let found = self.finding(context.first(), self.look(context).await);
            if found.ok || Instant::now() > deadline {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| context.effects.clock(&*context.cluster, &node, &context.id, None).await).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        if !context.effects.left(context.first(), &context.id).await {
            return None;
        }
        let now = context.cluster.clock(context.first()).await.ok()?;
        let off = micros_as_ms(now.offset_us);
        Some(FaultFinding::yes(format!("the clock of {} is off by {off:.1} ms", context.first())).with("offset_ms", off))
    }
}

fn micros_as_ms(micros: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    let ms = micros as f64 / 1e3;
    ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_is_felt_only_with_a_reading() {
        let ok = |offset_us, look| Clocked::new(offset_us, 1.0).finding("db1", look).ok;
        for offset_us in [39_999, 40_000, 60_000_000] {
            assert!(!ok(offset_us, Err("no answer".to_owned())), "{offset_us} without a reading");
        }
        // The measurement is too inaccurate for a small skew, so a reading is enough.
        assert!(ok(39_999, Ok((0.0, 39_999.0))));
        assert!(!ok(60_000_000, Ok((0.0, 60e6))));
        assert!(ok(60_000_000, Ok((60.001e6, 60e6))));
    }
}
