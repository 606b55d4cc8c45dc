//! Faults of the processes of a node. The evidence of these faults is that the node does not answer its readiness probe.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Serialize;

use super::{FELT_WITHIN, FaultContext, FaultFinding, Injection, PATIENT, PROBE, ResolvedFault, Target, each, ms};
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_cluster::{Cluster, ClusterError, NodeStatus};
use chaosrun_event::{Actor, NodeState};

/// Fault of processes, injected into each target node. By default the process of the node has ended after the injection, and a start of the
/// node undoes the fault.
#[async_trait]
pub(super) trait OnProcess: std::fmt::Debug + Clone + Serialize + Send + Sync + 'static {
    fn target(&self) -> &Target;

    /// Activates the fault on the node.
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError>;

    /// Checks the state of a node. Returns a description of the proof if the fault is active, and the actual state as an error otherwise.
    fn installed(&self, status: &NodeStatus) -> Result<String, String> {
        ended(status)
    }

    /// Removes the fault from the node through the cluster when the duration of the fault is over.
    async fn heal(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.start(node, Actor::Time).await
    }

    /// Returns true if the state of the node shows that the fault is gone.
    fn gone(&self, status: &NodeStatus) -> bool {
        status.state == NodeState::Running
    }
}

impl<T: OnProcess> ResolvedFault for T {
    fn targets(&self) -> Vec<&Target> {
        vec![self.target()]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Process(self.clone()))
    }
}

struct Process<T>(T);

#[async_trait]
impl<T: OnProcess> Injection for Process<T> {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        Ok(answers(context).await)
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| self.0.inject(&*context.cluster, &node).await).await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        installed(context, |status| self.0.installed(status))
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        silence(context).await
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| self.0.heal(&*context.cluster, &node).await).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        answers_again(context, |status| self.0.gone(status)).await
    }
}

/// Checks the state of every target with the function `shows`.
pub(super) fn installed(context: &FaultContext, shows: impl Fn(&NodeStatus) -> Result<String, String>) -> FaultFinding {
    let mut told = Vec::new();
    for status in context.statuses() {
        match shows(&status) {
            Ok(how) => told.push(format!("{}: {how}", status.node)),
            Err(problem) => return FaultFinding::no(format!("{}: {problem}", status.node)),
        }
    }
    FaultFinding::yes(told.join(", "))
}

/// Returns a description of the end of the process of the node, or an error if the process has not ended.
pub(super) fn ended(status: &NodeStatus) -> Result<String, String> {
    match &status.state {
        NodeState::Exited { signal: Some(signal), .. } => Ok(format!("process ended by signal {signal}")),
        NodeState::Exited { code, .. } => Ok(format!("process ended with code {}", code.unwrap_or_default())),
        NodeState::Running => Err("process still runs".into()),
        NodeState::Paused => Err("process is stopped, not gone".into()),
        NodeState::Created => Err("process was never started".into()),
    }
}

/// Returns an unaffected node for comparison, preferably of another role. Nodes of the same role may answer more slowly while one of them
/// is down, for example because of an election. Such a delay would not be an error of the injection.
fn bystander(context: &FaultContext) -> Option<String> {
    let topology = context.cluster.topology();
    let role = topology.node(context.first()).map(|node| node.role.clone());
    let running = context.cluster.status();
    let alive = |name: &str| running.iter().any(|status| status.node == name && status.state == NodeState::Running);
    let mut others: Vec<_> = topology.nodes.iter().filter(|node| !context.targets.contains(&node.name) && alive(&node.name)).collect();
    others.sort_by_key(|node| Some(&node.role) == role.as_ref());
    others.first().map(|node| node.name.clone())
}

/// Returns a description of the answers to probes before the fault, such as `tikv2 answered in 0.4 ms`.
pub(super) async fn answers(context: &FaultContext) -> String {
    let nodes = context.targets.iter().cloned().chain(bystander(context));
    let answers = futures_util::future::join_all(nodes.map(async |node| match context.cluster.answers(&node, PROBE).await {
        Ok(took) => format!("{node} answered in {}", ms(took)),
        Err(error) => format!("{node} did not answer ({error})"),
    }));
    answers.await.join(", ")
}

/// Probes the affected nodes until they do not answer, and probes one unaffected node for comparison.
pub(super) async fn silence(context: &FaultContext) -> FaultFinding {
    let mut silent = Vec::new();
    for node in &context.targets {
        match silent_node(context, node).await {
            Ok(how) => silent.push(format!("{node} {how}")),
            Err(problem) => return FaultFinding::no(format!("{problem}, wanted: no answer")),
        }
    }
    let after = context.began.elapsed();
    let found = FaultFinding::yes(silent.join(", ")).time("silent_after_ms", after);
    let Some(node) = bystander(context) else { return found };
    match context.cluster.answers(&node, PROBE).await {
        Ok(took) => {
            let detail = format!("{}; unaffected {node} answered in {}", found.detail, ms(took));
            FaultFinding { detail, ..found }.time("bystander_ms", took)
        }
        Err(error) => {
            context.emitter.warn(format!("fault `{}`: the unaffected node `{node}` did not answer either: {error}", context.id));
            FaultFinding { detail: format!("{}; unaffected {node} did not answer: {error}", found.detail), ..found }
        }
    }
}

/// Waits until the node does not answer. Returns an error if the node still answers after [`FELT_WITHIN`].
async fn silent_node(context: &FaultContext, node: &str) -> Result<String, String> {
    let deadline = Instant::now() + FELT_WITHIN;
    loop {
        match context.cluster.answers(node, PROBE).await {
            Err(how) => return Ok(how),
            Ok(took) if Instant::now() > deadline => return Err(format!("{node} still answers in {}", ms(took))),
            Ok(_) => tokio::task::yield_now().await,
        }
    }
}

/// Waits until no target shows the fault any more and all targets answer. Returns `None` if the trial ends before.
pub(super) async fn answers_again(context: &FaultContext, gone: impl Fn(&NodeStatus) -> bool) -> Option<FaultFinding> {
    let mut changes = context.cluster.changes();
    loop {
        let statuses = context.statuses();
        if !statuses.is_empty() && statuses.iter().all(&gone) {
            break;
        }
        if matches!(changes.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
            return None;
        }
    }
    for node in &context.targets {
        while context.cluster.answers(node, PATIENT).await.is_err() {
            if context.statuses().iter().any(|status| !gone(status)) {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Some(FaultFinding::yes(format!("{} answers again", context.targets.join(", "))))
}
