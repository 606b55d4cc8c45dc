//! What happens to the processes of a node. It shows by silence: the node gives no answer to the probe that says whether it is ready.

pub mod crash_loop;
pub mod node_kill;
pub mod node_pause;
pub mod node_restart;
pub mod node_stop;

use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::driver::each;
use super::fault::{FELT_WITHIN, Finding, Inject, PATIENT, PROBE, Site, ms};
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::event::{Actor, NodeState};

/// One such fault, node by node. Unless it says otherwise the process is gone then, and a start undoes it.
#[async_trait]
pub(super) trait OnProcess: Send + Sync {
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError>;

    /// `Ok` says in words what proves it, `Err` what was found instead.
    fn installed(&self, status: &NodeStatus) -> Result<String, String> {
        ended(status)
    }

    /// Undoes it from outside, when its time is over.
    async fn heal(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.start(node, Actor::Time).await
    }

    /// Whether this state of the node shows that the fault is no longer there.
    fn gone(&self, status: &NodeStatus) -> bool {
        status.state == NodeState::Running
    }
}

struct Process<T>(T);

pub(super) fn boxed(fault: impl OnProcess + 'static) -> Box<dyn Inject> {
    Box::new(Process(fault))
}

#[async_trait]
impl<T: OnProcess> Inject for Process<T> {
    async fn before(&self, site: &Site) -> Result<String, String> {
        Ok(answers(site).await)
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| self.0.inject(&*site.cluster, &node).await).await
    }

    async fn installed(&self, site: &Site) -> Finding {
        installed(site, |status| self.0.installed(status))
    }

    async fn felt(&self, site: &Site) -> Finding {
        silence(site).await
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| self.0.heal(&*site.cluster, &node).await).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        answers_again(site, |status| self.0.gone(status)).await
    }
}

/// What every target's state shows.
pub(super) fn installed(site: &Site, shows: impl Fn(&NodeStatus) -> Result<String, String>) -> Finding {
    let mut told = Vec::new();
    for status in site.statuses() {
        match shows(&status) {
            Ok(how) => told.push(format!("{}: {how}", status.node)),
            Err(problem) => return Finding::no(format!("{}: {problem}", status.node)),
        }
    }
    Finding::yes(told.join(", "))
}

/// The process is gone: how it ended.
pub(super) fn ended(status: &NodeStatus) -> Result<String, String> {
    match &status.state {
        NodeState::Exited { signal: Some(signal), .. } => Ok(format!("process ended by signal {signal}")),
        NodeState::Exited { code, .. } => Ok(format!("process ended with code {}", code.unwrap_or_default())),
        NodeState::Running => Err("process still runs".into()),
        NodeState::Paused => Err("process is stopped, not gone".into()),
        NodeState::Created => Err("process was never started".into()),
    }
}

/// An unaffected node to compare with. Of another role when there is one: those of the same role may well answer worse
/// while one of them is gone (an election), and that is no fault of the injection.
fn bystander(site: &Site) -> Option<String> {
    let topology = site.cluster.topology();
    let role = topology.node(site.first()).map(|node| node.role.clone());
    let running = site.cluster.status();
    let alive = |name: &str| running.iter().any(|status| status.node == name && status.state == NodeState::Running);
    let mut others: Vec<_> = topology.nodes.iter().filter(|node| !site.targets.contains(&node.name) && alive(&node.name)).collect();
    others.sort_by_key(|node| Some(&node.role) == role.as_ref());
    others.first().map(|node| node.name.clone())
}

/// What the probes say before the fault: `tikv2 answered in 0.4 ms`.
pub(super) async fn answers(site: &Site) -> String {
    let nodes = site.targets.iter().cloned().chain(bystander(site));
    let answers = futures_util::future::join_all(nodes.map(async |node| match site.cluster.answers(&node, PROBE).await {
        Ok(took) => format!("{node} answered in {}", ms(took)),
        Err(error) => format!("{node} did not answer ({error})"),
    }));
    answers.await.join(", ")
}

/// Asks the affected nodes until they do not answer, and one unaffected node.
pub(super) async fn silence(site: &Site) -> Finding {
    let mut silent = Vec::new();
    for node in &site.targets {
        match silent_node(site, node).await {
            Ok(how) => silent.push(format!("{node} {how}")),
            Err(problem) => return Finding::no(format!("{problem}, wanted: no answer")),
        }
    }
    let after = site.began.elapsed();
    let found = Finding::yes(silent.join(", ")).time("silent_after_ms", after);
    let Some(node) = bystander(site) else { return found };
    match site.cluster.answers(&node, PROBE).await {
        Ok(took) => {
            let detail = format!("{}; unaffected {node} answered in {}", found.detail, ms(took));
            Finding { detail, ..found }.time("bystander_ms", took)
        }
        Err(error) => {
            site.emitter.warn(format!("fault `{}`: the unaffected node `{node}` did not answer either: {error}", site.id));
            Finding { detail: format!("{}; unaffected {node} did not answer: {error}", found.detail), ..found }
        }
    }
}

/// Until the node does not answer; `Err` when it keeps answering.
async fn silent_node(site: &Site, node: &str) -> Result<String, String> {
    let deadline = Instant::now() + FELT_WITHIN;
    loop {
        match site.cluster.answers(node, PROBE).await {
            Err(how) => return Ok(how),
            Ok(took) if Instant::now() > deadline => return Err(format!("{node} still answers in {}", ms(took))),
            Ok(_) => tokio::task::yield_now().await,
        }
    }
}

/// Until no target shows the fault any more and all answer. None when the trial is over before.
pub(super) async fn answers_again(site: &Site, gone: impl Fn(&NodeStatus) -> bool) -> Option<Finding> {
    let mut changes = site.cluster.changes();
    loop {
        let statuses = site.statuses();
        if !statuses.is_empty() && statuses.iter().all(&gone) {
            break;
        }
        if matches!(changes.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
            return None;
        }
    }
    for node in &site.targets {
        while site.cluster.answers(node, PATIENT).await.is_err() {
            if site.statuses().iter().any(|status| !gone(status)) {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Some(Finding::yes(format!("{} answers again", site.targets.join(", "))))
}
