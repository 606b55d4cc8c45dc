//! `node_stop`: SIGTERM, and SIGKILL after a grace. A later start of the node undoes it.

use std::time::Duration;

use async_trait::async_trait;

use super::fault::Inject;
use super::node_kill::ended;
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::event::{Actor, NodeState};

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
