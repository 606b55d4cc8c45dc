//! Context of one injection: its targets, the cluster, and the observations of the cluster.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::active_effects::ActiveEffects;
use super::resolver::Heal;
use chaosrun_cluster::{Cluster, ClusterError, NodeStatus};
use chaosrun_event::emit::Emitter;
use chaosrun_expr::topology::{AddressView, node_context};
use chaosrun_expr::{ConditionTruth, Context, Expr, Template};

/// Access to the observations of the cluster, for faults without evidence of their own. The monitor implements this trait.
#[async_trait]
pub trait ClusterObserver: Send + Sync {
    /// Returns the truth of the condition for the newest observations.
    async fn truth(&self, condition: &Expr) -> ConditionTruth;

    /// Returns a subscription to notifications of future evaluations.
    fn changes(&self) -> Box<dyn Changes>;
}

/// Subscription to notifications of new evaluations of the observations.
#[async_trait]
pub trait Changes: Send {
    /// Waits for the next evaluation. Returns false if no further evaluation follows.
    async fn next(&mut self) -> bool;
}

#[async_trait]
impl<T: Send + Sync> Changes for watch::Receiver<T> {
    async fn next(&mut self) -> bool {
        self.changed().await.is_ok()
    }
}

/// Context of one injection of a fault. Cheap to clone.
#[derive(Clone)]
pub struct FaultContext {
    /// Id of the fault: the key of its entry below `chaos:`.
    pub id: String,
    /// Names of the nodes into which the fault is injected.
    pub targets: Vec<String>,
    pub cluster: Arc<dyn Cluster>,
    pub observer: Arc<dyn ClusterObserver>,
    pub effects: ActiveEffects,
    pub emitter: Emitter,
    pub seed: u64,
    pub clock_scale: Option<f64>,
    pub heal: Heal,
    /// Time of the injection.
    pub began: Instant,
    /// Token that is cancelled at the end of the timeline of the trial. Ends tasks that run beside the injection.
    pub cancel: CancellationToken,
}

impl FaultContext {
    /// Returns the name of the first target. Every injection has at least one target.
    #[must_use]
    pub fn first(&self) -> &str {
        self.targets.first().map_or("", String::as_str)
    }

    /// Returns the current states of the targets.
    #[must_use]
    pub fn statuses(&self) -> Vec<NodeStatus> {
        self.cluster.status().into_iter().filter(|status| self.targets.contains(&status.node)).collect()
    }

    /// Returns the total number of starts of all targets so far.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.statuses().iter().map(|status| status.starts).sum()
    }

    /// Returns the names that expressions and templates of the node may use.
    #[must_use]
    pub fn expression_context(&self, node: &str, view: AddressView) -> Context {
        node_context(self.cluster.topology(), Some(node), view, self.clock_scale, self.seed)
    }

    /// Renders a template with the names of a node.
    ///
    /// # Errors
    /// Returns an error if the template uses a name that has no value.
    pub fn render(&self, template: &Template, node: &str) -> Result<String, ClusterError> {
        template.render(&self.expression_context(node, AddressView::Advertised)).map_err(|unknown| ClusterError::Template(unknown.reason))
    }

    /// Waits until the truth of the condition `sign` over the observations is `wanted`. Returns false if the observations end before.
    pub async fn becomes(&self, sign: &Expr, wanted: ConditionTruth) -> bool {
        let mut changes = self.observer.changes();
        loop {
            if self.observer.truth(sign).await == wanted {
                return true;
            }
            if !changes.next().await {
                return false;
            }
        }
    }
}
