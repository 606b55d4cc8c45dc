//! What every fault can do, and what is known of one that was injected.

use async_trait::async_trait;

use super::{exec::Command, node_kill::NodeKill, node_pause::NodePause, node_stop::NodeStop};
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::expr::Expr;
use crate::scenario::model::{Fault, Scenario};

/// How it shows that a fault is felt.
#[derive(Debug, Clone)]
pub(super) enum Signs {
    /// The node gives no answer to the probe that says whether it is ready.
    Silence,
    /// A condition over the observations is true.
    Observed(Expr),
    /// Nothing shows but that it was installed.
    Nothing,
}

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

    fn signs(&self) -> Signs {
        Signs::Silence
    }
}

/// `seed` is the trial's.
pub(super) fn of(fault: &Fault, scenario: &Scenario, seed: u64) -> Box<dyn Inject> {
    match fault {
        Fault::NodeKill { signal, .. } => Box::new(NodeKill { signal: *signal }),
        Fault::NodeStop { grace, .. } => Box::new(NodeStop { grace: *grace }),
        Fault::NodePause { .. } => Box::new(NodePause),
        Fault::Exec { command, undo, felt, .. } => Box::new(Command {
            words: command.clone(),
            undo: undo.clone(),
            felt: felt.as_deref().cloned(),
            clock_scale: scenario.cluster.clock_scale,
            seed,
        }),
    }
}
