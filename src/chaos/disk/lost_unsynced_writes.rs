//! `lost_unsynced_writes`: the node is killed, and what it wrote and did not sync is gone, as after a power cut. A kill alone never
//! tests that: the kernel keeps what a dead process has written.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::{LAYER, SHARED};
use crate::chaos::catalogue::{Kind, Repair};
use crate::chaos::driver::each;
use crate::chaos::fault::{Finding, Inject, Site};
use crate::chaos::process::{answers, answers_again, ended, installed, silence};
use crate::cluster::ClusterError;
use crate::event::{Actor, NodeState};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "lost_unsynced_writes",
    local: LAYER,
    docker: SHARED,
    refused: "",
    repair: Repair::Verb("start"),
    class: "power_loss",
    holds: Some("process"),
};

#[derive(Default)]
pub(in crate::chaos) struct LostUnsyncedWrites {
    bytes: AtomicU64,
}

#[async_trait]
impl Inject for LostUnsyncedWrites {
    async fn before(&self, site: &Site) -> Result<String, String> {
        Ok(answers(site).await)
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| {
            site.cluster.kill(&node, libc::SIGKILL, Actor::Fault).await?;
            let lost = site.cluster.lose_unsynced(&node).await?;
            self.bytes.fetch_add(lost, Ordering::Relaxed);
            Ok(())
        })
        .await
    }

    async fn installed(&self, site: &Site) -> Finding {
        installed(site, ended)
    }

    async fn hit(&self, _site: &Site) -> Option<Finding> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        let number = bytes as f64;
        // A program that syncs all it writes loses nothing: that is what is tested.
        Some(Finding::yes(format!("{bytes} unsynced bytes are gone")).with("lost_bytes", number))
    }

    async fn felt(&self, site: &Site) -> Finding {
        silence(site).await
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| site.cluster.start(&node, Actor::Time).await).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        answers_again(site, |status| status.state == NodeState::Running).await
    }
}
