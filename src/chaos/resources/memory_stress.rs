//! `memory_stress`: something else holds the node's memory, within the node's own limit.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{gone, installed, intact};
use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::chaos::driver::each;
use crate::chaos::fault::{FELT_WITHIN, Finding, Inject, Site};
use crate::cluster::ClusterError;
use crate::cluster::harm::Stress;
use crate::scenario::model::MemoryAmount;

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "memory_stress",
    local: &[],
    docker: &[Way::plain("held by a program in the node's container")],
    refused: "nodes have no limit of memory",
    repair: Repair::Verb("restart"),
    class: "memory_exhaustion",
    holds: Some("memory"),
};

pub(in crate::chaos) struct MemoryStress {
    amount: MemoryAmount,
    before: OnceLock<u64>,
}

impl MemoryStress {
    pub fn new(amount: MemoryAmount) -> Self {
        Self { amount, before: OnceLock::new() }
    }

    async fn bytes(&self, site: &Site, node: &str) -> Result<u64, ClusterError> {
        match self.amount {
            MemoryAmount::Size(bytes) => Ok(bytes),
            MemoryAmount::Percent(percent) => {
                let limit = site.cluster.usage(node).await?.memory_limit;
                let no_limit = || ClusterError::Conflict { node: node.into(), problem: "has no limit of memory".into() };
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "memory is smaller"
                )]
                let bytes = (limit.ok_or_else(no_limit)? as f64 * percent / 100.0) as u64;
                Ok(bytes)
            }
        }
    }

    async fn used(site: &Site) -> Result<u64, ClusterError> {
        Ok(site.cluster.usage(site.first()).await?.memory)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[async_trait]
impl Inject for MemoryStress {
    async fn before(&self, site: &Site) -> Result<String, String> {
        let used = Self::used(site).await.map_err(|error| error.to_string())?;
        let _ = self.before.set(used);
        Ok(format!("{} used {:.1} MiB", site.first(), mib(used)))
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| {
            let memory = self.bytes(site, &node).await?;
            let stress = Stress { memory, ..Stress::default() };
            site.states.stress(&*site.cluster, &node, &site.id, Some(stress)).await
        })
        .await
    }

    async fn installed(&self, site: &Site) -> Finding {
        let asked = self.bytes(site, site.first()).await.unwrap_or_default();
        // Touched page by page; what the kernel killed for it is not there.
        installed(site, |reading| reading.memory + (asked / 20) >= asked).await
    }

    async fn felt(&self, site: &Site) -> Finding {
        let (before, asked) = (self.before.get().copied().unwrap_or_default(), self.bytes(site, site.first()).await.unwrap_or_default());
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let now = match Self::used(site).await {
                Ok(now) => now,
                Err(error) => return Finding::no(error.to_string()),
            };
            let ok = now >= before + asked / 10 * 8;
            if ok || Instant::now() > deadline {
                let detail = format!("{} uses {:.1} MiB (asked {:.1} more)", site.first(), mib(now), mib(asked));
                return Finding::new(ok, detail)
                    .with("used_mib", mib(now))
                    .with("used_before_mib", mib(before))
                    .with("asked_mib", mib(asked));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        super::put(site, None).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        gone(site).await
    }

    async fn intact(&self, site: &Site) -> Option<Finding> {
        intact(site).await
    }
}
