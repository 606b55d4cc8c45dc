//! What happens to the disk of a node.

pub mod disk_error;
pub mod disk_pressure;
pub mod disk_slow;
pub mod lost_unsynced_writes;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::catalogue::{Feature, Way};
use super::driver::each;
use super::fault::{FELT_WITHIN, Finding, Inject, Site, ms};
use crate::cluster::ClusterError;
use crate::cluster::harm::{DiskCounters, DiskFault};

/// A file system of ours between the node and its data.
const LAYER: &[Way] = &[Way { how: "a file system of ours under the node's data", needs: &[Feature::Fuse] }];

/// The same, mounted beside the containers and given to them.
const SHARED: &[Way] = &[Way { how: "a file system of ours under the node's volume", needs: &[Feature::SharedFuse] }];

/// `disk_slow` and `disk_error`: what the layer under the node's data does.
pub(super) struct Layered {
    fault: DiskFault,
    /// How long a write of ours took, and what had been counted.
    before: OnceLock<(Duration, DiskCounters)>,
}

impl Layered {
    pub fn new(fault: DiskFault) -> Self {
        Self { fault, before: OnceLock::new() }
    }

    async fn counters(site: &Site) -> Result<DiskCounters, String> {
        site.cluster.disk_counters(site.first()).await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Inject for Layered {
    async fn before(&self, site: &Site) -> Result<String, String> {
        let node = site.first();
        let took = site.cluster.write_through(node).await?;
        let _ = self.before.set((took, Self::counters(site).await?));
        Ok(format!("a write of {node} took {}", ms(took)))
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| site.states.disk(&*site.cluster, &node, &site.id, Some(self.fault.clone())).await).await
    }

    async fn installed(&self, site: &Site) -> Finding {
        // Whoever answers has taken it: the layer acknowledges a change after it is in force.
        match Self::counters(site).await {
            Ok(_) => Finding::yes(format!("the layer under {} was told", site.targets.join(", "))),
            Err(error) => Finding::no(error),
        }
    }

    async fn hit(&self, site: &Site) -> Option<Finding> {
        let now = Self::counters(site).await.ok()?;
        let (_, before) = self.before.get()?;
        let (delayed, failed) = (now.delayed.saturating_sub(before.delayed), now.failed.saturating_sub(before.failed));
        #[expect(clippy::cast_precision_loss, reason = "counts for people")]
        let numbers = (delayed as f64, failed as f64);
        let detail = format!("{delayed} operations delayed, {failed} failed");
        Some(Finding::new(delayed + failed > 0, detail).with("delayed", numbers.0).with("failed", numbers.1))
    }

    /// A write of ours takes longer, or fails.
    async fn felt(&self, site: &Site) -> Finding {
        let node = site.first();
        let asked = self.fault.write_delay + self.fault.sync_delay;
        let before = self.before.get().map(|(took, _)| *took).unwrap_or_default();
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let found = match site.cluster.write_through(node).await {
                Err(how) => {
                    return Finding::new(self.fault.error > 0.0, format!("a write of {node} {how}")).time("write_before_ms", before);
                }
                Ok(took) => {
                    let ok = !asked.is_zero() && took * 10 >= asked * 9;
                    let found = Finding::new(ok, format!("a write of {node} took {} (asked {} more)", ms(took), ms(asked)));
                    found.time("write_ms", took).time("write_before_ms", before).time("asked_ms", asked)
                }
            };
            // What only reads feel, or only a few writes, is counted.
            let counted = self.hit(site).await.filter(|hit| hit.ok);
            if let (false, Some(hit)) = (found.ok, counted) {
                return Finding { ok: true, detail: hit.detail, numbers: hit.numbers };
            }
            if found.ok || Instant::now() > deadline {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| site.states.disk(&*site.cluster, &node, &site.id, None).await).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        if !site.states.left(site.first(), &site.id).await {
            return None;
        }
        let before = self.before.get().map(|(took, _)| *took).unwrap_or_default();
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let now = site.cluster.write_through(site.first()).await;
            let fine = now.as_ref().is_ok_and(|now| *now < before * 4 + Duration::from_millis(20));
            if fine || Instant::now() > deadline {
                let detail = now.map_or_else(|how| format!("a write {how}"), |now| format!("a write takes {}", ms(now)));
                return Some(Finding::new(fine, detail));
            }
        }
    }
}
