//! `node_pause`: SIGSTOP to the whole process group: the kernel still accepts connections, nobody answers.

use async_trait::async_trait;

use super::catalogue::{Kind, Way};
use super::fault::Inject;
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::event::{Actor, NodeState};

pub(super) const KIND: Kind = Kind {
    name: "node_pause",
    local: &[Way { how: "SIGSTOP to the process group", needs: &[] }],
    docker: &[Way { how: "freezer, by the engine", needs: &[] }],
};

#[derive(Debug)]
pub(super) struct NodePause;

#[async_trait]
impl Inject for NodePause {
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

    fn gone(&self, status: &NodeStatus) -> bool {
        status.state == NodeState::Running
    }
}
