//! What happens to the clocks that a node's processes ask.

pub mod clock_rate;
pub mod clock_skew;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::catalogue::Way;
use super::driver::each;
use super::fault::{FELT_WITHIN, Finding, Inject, Site};
use crate::cluster::ClusterError;
use crate::cluster::harm::{Clock, ClockReading};

const PRELOADED: &[Way] = &[Way::plain("a library of ours in front of the C library; static programs and those in Go are refused")];

/// `clock_skew` and `clock_rate`.
pub(super) struct Clocked {
    clock: Clock,
    before: OnceLock<(ClockReading, Instant)>,
}

impl Clocked {
    pub fn new(offset_us: i64, rate: f64) -> Self {
        Self { clock: Clock { offset_us, rate }, before: OnceLock::new() }
    }

    /// What a process of the node sees beside what it saw before, and what it should, in microseconds.
    async fn look(&self, site: &Site) -> Result<(ClockReading, f64, f64), String> {
        let now = site.cluster.clock(site.first()).await.map_err(|error| error.to_string())?;
        let since = site.began.elapsed().as_secs_f64() * 1e6;
        #[expect(clippy::cast_precision_loss, reason = "a time for people")]
        let (seen, offset) =
            ((now.offset_us - self.before.get().map_or(0, |(before, _)| before.offset_us)) as f64, self.clock.offset_us as f64);
        Ok((now, seen, offset + since * (self.clock.rate - 1.0)))
    }
}

#[async_trait]
impl Inject for Clocked {
    async fn before(&self, site: &Site) -> Result<String, String> {
        let now = site.cluster.clock(site.first()).await.map_err(|error| error.to_string())?;
        let _ = self.before.set((now, Instant::now()));
        Ok(format!("the clock of {} was off by {:.1} ms", site.first(), micros_as_ms(now.offset_us)))
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| site.states.clock(&*site.cluster, &node, &site.id, Some(self.clock)).await).await
    }

    async fn installed(&self, site: &Site) -> Finding {
        self.felt(site).await
    }

    /// The node's own processes have asked since.
    async fn hit(&self, site: &Site) -> Option<Finding> {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let now = site.cluster.clock(site.first()).await.ok()?;
            let reads = now.reads;
            if reads > 0 || Instant::now() > deadline {
                #[expect(clippy::cast_precision_loss, reason = "a count for people")]
                let number = reads as f64;
                return Some(Finding::new(reads > 0, format!("its processes have asked {reads} times")).with("reads", number));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A process in the node's surroundings sees it.
    async fn felt(&self, site: &Site) -> Finding {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let found = match self.look(site).await {
                Err(error) => Finding::no(error),
                Ok((_, seen, asked)) => {
                    // A look takes some time of its own; a rate shows only after a while.
                    let ok = (seen - asked).abs() <= asked.abs() * 0.1 + 20_000.0 && asked.abs() >= 40_000.0;
                    let detail = format!("the clock of {} is off by {:.1} ms (asked {:.1} ms)", site.first(), seen / 1e3, asked / 1e3);
                    Finding::new(ok, detail).with("offset_ms", seen / 1e3).with("asked_ms", asked / 1e3)
                }
            };
            // A skew too small to be seen so is felt when it is there at all.
            let small = self.clock.offset_us.unsigned_abs() < 40_000 && (self.clock.rate - 1.0).abs() < f64::EPSILON;
            if found.ok || small || Instant::now() > deadline {
                return Finding { ok: found.ok || small, ..found };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| site.states.clock(&*site.cluster, &node, &site.id, None).await).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        if !site.states.left(site.first(), &site.id).await {
            return None;
        }
        let now = site.cluster.clock(site.first()).await.ok()?;
        let off = micros_as_ms(now.offset_us);
        Some(Finding::yes(format!("the clock of {} is off by {off:.1} ms", site.first())).with("offset_ms", off))
    }
}

fn micros_as_ms(micros: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    let ms = micros as f64 / 1e3;
    ms
}
