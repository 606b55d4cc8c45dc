//! `node_pause`: sends SIGSTOP to the whole process group of the node. The kernel still accepts connections, but no process answers.

use async_trait::async_trait;
use serde::Serialize;

use crate::description::on;
use crate::process::OnProcess;
pub use crate::target::TargetOnly as Parameters;
use crate::{DOCKER, FaultDescription, LOCAL, Repair, Resolution, Resolver, Target, Way};
use chaosrun_cluster::{Cluster, ClusterError, NodeStatus};
use chaosrun_event::{Actor, NodeState};

/// Fixed data of the fault `node_pause`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "node_pause",
    summary: "Pauses the processes of the node. Their connections stay open.",
    example: "node_pause: { target: { role: tikv, pick: all } }",
    backends: &[
        on(LOCAL, &[Way::plain("SIGSTOP to the process group")]),
        on(DOCKER, &[Way::plain("pause by the engine (cgroup freezer)")]),
    ],
    refused: "",
    repair: Repair::Verb("unpause"),
    class: "process_hang",
    holds: Some("process"),
    prepares: None,
};

/// Checks the parameters of `node_pause`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    Some(Resolution::of(NodePause { target: to.target(&read.target)? }))
}

#[derive(Debug, Clone, Serialize)]
struct NodePause {
    target: Target,
}

#[async_trait]
impl OnProcess for NodePause {
    fn target(&self) -> &Target {
        &self.target
    }

    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.pause(node, Actor::Fault).await
    }

    fn installed(&self, status: &NodeStatus) -> Result<String, String> {
        match status.state {
            NodeState::Paused => Ok("process is stopped".into()),
            ref other => Err(format!("process is not stopped: {other:?}")),
        }
    }

    async fn heal(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.unpause(node, Actor::Time).await
    }
}
