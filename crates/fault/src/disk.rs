//! Faults of the disk that contains the data of a node.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{FELT_WITHIN, FaultContext, FaultFinding, Feature, Injection, Way, each, ms};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{DiskCounters, DiskFault};

/// Mechanism on the backend `local`: a file system for fault injection between the node and its data.
pub(super) const LAYER: &[Way] =
    &[Way { how: "FUSE file system of chaosrun under the data directory of the node", needs: &[Feature::Fuse] }];

/// Mechanism on the backend `docker`: a file system for fault injection, mounted on this machine and shared with the containers.
pub(super) const SHARED: &[Way] =
    &[Way { how: "FUSE file system of chaosrun under the volume of the node", needs: &[Feature::SharedFuse] }];

/// Injection of a fault that the file system under the data of the node produces.
pub(super) struct Layered {
    fault: DiskFault,
    /// Duration of a test write, and the counters of the file system, before the fault.
    before: OnceLock<(Duration, DiskCounters)>,
}

impl Layered {
    pub fn new(fault: DiskFault) -> Self {
        Self { fault, before: OnceLock::new() }
    }

    async fn counters(context: &FaultContext) -> Result<DiskCounters, String> {
        context.cluster.disk_counters(context.first()).await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Injection for Layered {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let node = context.first();
        let took = context.cluster.write_through(node).await?;
        let _ = self.before.set((took, Self::counters(context).await?));
        Ok(format!("a write of {node} took {}", ms(took)))
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| context.effects.disk(&*context.cluster, &node, &context.id, Some(self.fault.clone())).await)
            .await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        // The file system acknowledges a change only after the change is active.
        match Self::counters(context).await {
            Ok(_) => FaultFinding::yes(format!("the file system under {} has applied the fault", context.targets.join(", "))),
            Err(error) => FaultFinding::no(error),
        }
    }

    async fn hit(&self, context: &FaultContext) -> Option<FaultFinding> {
        let now = Self::counters(context).await.ok()?;
        let (_, before) = self.before.get()?;
        let (delayed, failed) = (now.delayed.saturating_sub(before.delayed), now.failed.saturating_sub(before.failed));
        #[expect(clippy::cast_precision_loss, reason = "counts for people")]
        let numbers = (delayed as f64, failed as f64);
        let detail = format!("{delayed} operations delayed, {failed} failed");
        Some(FaultFinding::new(delayed + failed > 0, detail).with("delayed", numbers.0).with("failed", numbers.1))
    }

    /// Checks that a test write takes longer than before the fault, or fails.
    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        let node = context.first();
        let asked = self.fault.write_delay + self.fault.sync_delay;
        let before = self.before.get().map(|(took, _)| *took).unwrap_or_default();
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let found = match context.cluster.write_through(node).await {
                Err(how) => {
                    return FaultFinding::new(self.fault.error > 0.0 || self.fault.read_only, format!("a write of {node} {how}"))
                        .time("write_before_ms", before);
                }
                Ok(took) => {
                    let ok = !asked.is_zero() && took * 10 >= asked * 9;
                    let found = FaultFinding::new(ok, format!("a write of {node} took {} (asked {} more)", ms(took), ms(asked)));
                    found.time("write_ms", took).time("write_before_ms", before).time("asked_ms", asked)
                }
            };
            // A test write may miss an effect on reads only, or on few writes only. The counters show such an effect.
            let counted = self.hit(context).await.filter(|hit| hit.ok);
            if let (false, Some(hit)) = (found.ok, counted) {
                return FaultFinding { ok: true, detail: hit.detail, numbers: hit.numbers };
            }
            if found.ok || Instant::now() > deadline {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| context.effects.disk(&*context.cluster, &node, &context.id, None).await).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        if !context.effects.left(context.first(), &context.id).await {
            return None;
        }
        let before = self.before.get().map(|(took, _)| *took).unwrap_or_default();
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let now = context.cluster.write_through(context.first()).await;
            let fine = now.as_ref().is_ok_and(|now| *now < before * 4 + Duration::from_millis(20));
            if fine || Instant::now() > deadline {
                let detail = now.map_or_else(|how| format!("a write {how}"), |now| format!("a write takes {}", ms(now)));
                return Some(FaultFinding::new(fine, detail));
            }
        }
    }
}
