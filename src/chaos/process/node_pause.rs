//! `node_pause`: SIGSTOP to the whole process group: the kernel still accepts connections, nobody answers.

use async_trait::async_trait;

use super::OnProcess;
use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::event::{Actor, NodeState};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "node_pause",
    local: &[Way::plain("SIGSTOP to the process group")],
    docker: &[Way::plain("freezer, by the engine")],
    refused: "",
    repair: Repair::Verb("unpause"),
    class: "process_hang",
    holds: Some("process"),
};

#[derive(Debug)]
pub(in crate::chaos) struct NodePause;

#[async_trait]
impl OnProcess for NodePause {
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
