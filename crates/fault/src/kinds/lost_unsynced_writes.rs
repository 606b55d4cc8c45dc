//! `lost_unsynced_writes`: the node is killed, and all data that it has written but not synced is removed, as after a power failure. A kill
//! alone does not test this case, because the kernel keeps the writes of a dead process.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde::Serialize;

use crate::description::on;
use crate::disk::{LAYER, SHARED};
use crate::process::{answers, answers_again, ended, installed, silence};
pub use crate::target::TargetOnly as Parameters;
use crate::{
    DOCKER, FaultContext, FaultDescription, FaultFinding, Injection, LOCAL, Preparation, Repair, Resolution, ResolvedFault, Resolver,
    Target, each,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_event::{Actor, NodeState};

/// Fixed data of the fault `lost_unsynced_writes`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "lost_unsynced_writes",
    summary: "Kills the node and discards the data that it wrote but did not sync.",
    example: "lost_unsynced_writes: { target: tikv1 }",
    backends: &[on(LOCAL, LAYER), on(DOCKER, SHARED)],
    refused: "",
    repair: Repair::Verb("start"),
    class: "power_loss",
    holds: Some("process"),
    prepares: Some(Preparation::DiskLayer),
};

/// Checks the parameters of `lost_unsynced_writes`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    Some(Resolution::of(LostUnsyncedWrites { target: to.target(&read.target)? }))
}

#[derive(Debug, Clone, Serialize)]
struct LostUnsyncedWrites {
    target: Target,
}

impl ResolvedFault for LostUnsyncedWrites {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Losses::default())
    }
}

#[derive(Default)]
struct Losses {
    bytes: AtomicU64,
}

#[async_trait]
impl Injection for Losses {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        Ok(answers(context).await)
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| {
            context.cluster.kill(&node, libc::SIGKILL, Actor::Fault).await?;
            let lost = context.cluster.lose_unsynced(&node).await?;
            self.bytes.fetch_add(lost, Ordering::Relaxed);
            Ok(())
        })
        .await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        installed(context, ended)
    }

    async fn hit(&self, _context: &FaultContext) -> Option<FaultFinding> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        let number = bytes as f64;
        // A program that syncs all its writes loses no data, which is correct behaviour.
        Some(FaultFinding::yes(format!("{bytes} unsynced bytes are lost")).with("lost_bytes", number))
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        silence(context).await
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| context.cluster.start(&node, Actor::Time).await).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        answers_again(context, |status| status.state == NodeState::Running).await
    }
}
