//! What every fault can do, and what is known of one that was injected.

use async_trait::async_trait;
use futures_util::future::join_all;

use super::network_partition::{Links, NetworkPartition};
use super::{exec::Command, node_kill::NodeKill, node_pause::NodePause, node_stop::NodeStop};
use crate::cluster::{Cluster, ClusterError, Cut, NodeStatus};
use crate::expr::Expr;
use crate::scenario::model::{Fault, Scenario};

/// How it shows that a fault is felt.
#[derive(Debug, Clone)]
pub(super) enum Signs {
    /// The node gives no answer to the probe that says whether it is ready.
    Silence,
    /// A condition over the observations is true.
    Observed(Expr),
    /// Nodes do not reach each other.
    Links(NetworkPartition),
    /// Nothing shows but that it was installed.
    Nothing,
}

/// One kind of fault, with its parameters.
#[async_trait]
pub(super) trait Inject: Send + Sync {
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError>;

    /// All targets at once.
    async fn inject_all(&self, cluster: &dyn Cluster, nodes: &[String]) -> Result<(), ClusterError> {
        let injected = join_all(nodes.iter().map(|node| self.inject(cluster, node))).await;
        injected.into_iter().collect()
    }

    /// Reads the state back: `Ok` says in words what proves it, `Err` what was found instead.
    fn installed(&self, status: &NodeStatus) -> Result<String, String>;

    /// Undoes it from outside, when its time is over.
    async fn heal(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError>;

    async fn heal_all(&self, cluster: &dyn Cluster, nodes: &[String]) -> Result<(), ClusterError> {
        let healed = join_all(nodes.iter().map(|node| self.heal(cluster, node))).await;
        healed.into_iter().collect()
    }

    /// Whether this state of the node shows that the fault is no longer there.
    fn gone(&self, status: &NodeStatus) -> bool;

    fn signs(&self) -> Signs {
        Signs::Silence
    }
}

/// What a fault is injected into, beside the cluster.
pub(super) struct Setting<'a> {
    pub id: &'a str,
    pub scenario: &'a Scenario,
    /// The trial's.
    pub seed: u64,
    pub links: &'a Links,
    /// Of links, when it is they that are cut.
    pub cuts: Vec<Cut>,
}

pub(super) fn of(fault: &Fault, setting: Setting<'_>) -> Box<dyn Inject> {
    match fault {
        Fault::NetworkPartition { .. } => {
            Box::new(NetworkPartition { id: setting.id.to_owned(), cuts: setting.cuts, links: setting.links.clone() })
        }
        Fault::NodeKill { signal, .. } => Box::new(NodeKill { signal: *signal }),
        Fault::NodeStop { grace, .. } => Box::new(NodeStop { grace: *grace }),
        Fault::NodePause { .. } => Box::new(NodePause),
        Fault::Exec { command, undo, felt, .. } => Box::new(Command {
            words: command.clone(),
            undo: undo.clone(),
            felt: felt.as_deref().cloned(),
            clock_scale: setting.scenario.cluster.clock_scale,
            seed: setting.seed,
        }),
    }
}
