//! `node_stop`: SIGTERM, and SIGKILL after a grace. A later start of the node undoes it.

use std::time::Duration;

use async_trait::async_trait;

use super::catalogue::{Kind, Way};
use super::fault::Inject;
use super::node_kill::ended;
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::event::{Actor, NodeState};

pub(super) const KIND: Kind = Kind {
    name: "node_stop",
    local: &[Way { how: "SIGTERM, then SIGKILL", needs: &[] }],
    docker: &[Way { how: "stop by the engine", needs: &[] }],
};

#[derive(Debug)]
pub(super) struct NodeStop {
    pub(super) grace: Duration,
}

#[async_trait]
impl Inject for NodeStop {
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.stop(node, self.grace, Actor::Fault).await
    }

    fn installed(&self, status: &NodeStatus) -> Result<String, String> {
        ended(status)
    }

    async fn heal(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.start(node, Actor::Time).await
    }

    fn gone(&self, status: &NodeStatus) -> bool {
        status.state == NodeState::Running
    }
}
