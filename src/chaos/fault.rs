//! What every fault can do, and what is known of one that was injected.

use async_trait::async_trait;

use super::{node_kill::NodeKill, node_pause::NodePause, node_stop::NodeStop};
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::scenario::model::Fault;

/// One kind of fault, with its parameters.
#[async_trait]
pub(super) trait Inject: Send + Sync {
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError>;

    /// Reads the state back: `Ok` says in words what proves it, `Err` what was found instead.
    fn installed(&self, status: &NodeStatus) -> Result<String, String>;

    /// Undoes it from outside, when its time is over.
    async fn heal(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError>;

    /// Whether this state of the node shows that the fault is no longer there.
    fn gone(&self, status: &NodeStatus) -> bool;
}

pub(super) fn of(fault: &Fault) -> Box<dyn Inject> {
    match fault {
        Fault::NodeKill { signal, .. } => Box::new(NodeKill { signal: *signal }),
        Fault::NodeStop { grace, .. } => Box::new(NodeStop { grace: *grace }),
        Fault::NodePause { .. } => Box::new(NodePause),
    }
}
