//! Handling of requests to a cluster daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use indexmap::IndexMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::meter::UsageMeter;
use super::wire::{About, DaemonMessage, FaultNow, KeptClusterStatus, ManualFaultEvidence, NodeNow, ReadinessStep};
use chaosrun_backend::tail;
use chaosrun_cluster::{Cluster, ClusterError, NodeStatus, PlacedNode};
use chaosrun_diagnostic::{RenderStyle, render};
use chaosrun_engine::chaos::manual_faults::ManualFaults;
use chaosrun_event::{Actor, EvidenceStep, NodeState};
use chaosrun_monitor::{MonitorHandle, MonitorState};
use chaosrun_scenario::model;

/// Time limit of one readiness probe, so that a node that does not answer cannot delay the status of the other nodes.
const ANSWERS: Duration = Duration::from_millis(400);
/// First pause between two readiness probes after a restart. Later pauses are longer, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause between two readiness probes after a restart.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Maximum time to wait until an event has changed the list of faults. Normally, this takes no noticeable time.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Readiness time limit of a node for which the cluster file declares no limit.
const WITHIN: Duration = Duration::from_secs(30);

/// Handler of requests to a daemon, with all state that the requests need.
pub(super) struct RequestHandler {
    pub about: About,
    pub spec: Arc<model::ClusterSpec>,
    pub cluster: Arc<dyn Cluster>,
    pub hand: ManualFaults,
    pub faults: watch::Receiver<IndexMap<String, FaultNow>>,
    pub meter: UsageMeter,
    pub up: AtomicBool,
    /// Handle of the monitor. `None` until the cluster is up.
    pub monitor: watch::Receiver<Option<MonitorHandle>>,
    /// Token that is cancelled to take the cluster down.
    pub end: CancellationToken,
    /// Final message of the daemon. `None` until the cluster is down.
    pub over: watch::Receiver<Option<DaemonMessage>>,
}

impl RequestHandler {
    pub(super) async fn status(&self) -> KeptClusterStatus {
        let now = self.cluster.status();
        let nodes = self.cluster.topology().nodes.iter().filter_map(|placed| {
            let now = now.iter().find(|now| now.node == placed.name)?;
            Some(self.node(placed, now))
        });
        let nodes = join_all(nodes).await;
        let broken = self.monitor.borrow().as_ref().map_or_else(Vec::new, |monitor| broken(&monitor.state().borrow()));
        KeptClusterStatus { about: self.about.clone(), up: self.up.load(Ordering::Relaxed), nodes, broken }
    }

    async fn node(&self, placed: &PlacedNode, now: &NodeStatus) -> NodeNow {
        let answer = if now.state == NodeState::Running {
            self.cluster.answers(&placed.name, ANSWERS).await.map(drop)
        } else {
            Err("does not run".to_owned())
        };
        let reading = if now.state == NodeState::Running { self.meter.read(&placed.name) } else { None };
        NodeNow {
            role: placed.role.clone(),
            node: placed.name.clone(),
            state: now.state.clone(),
            pid: now.pid,
            ready: answer.is_ok(),
            why: answer.err(),
            since_s: now.since.as_secs_f64(),
            starts: now.starts,
            ports: placed.ports.iter().map(|(name, port)| (name.clone(), port.advertised)).collect(),
            cpu: reading.as_ref().and_then(|reading| reading.cpu),
            memory: reading.as_ref().map(|reading| reading.usage.memory),
            memory_limit: reading.as_ref().and_then(|reading| reading.usage.memory_limit),
            processes: reading.as_ref().map(|reading| reading.usage.processes),
            log: self.cluster.log_file(&placed.name),
        }
    }

    /// Injects a fault. Returns when the effect of the fault was measured, or when the injection has failed.
    pub(super) async fn inject(&self, fault: &str, lasts: Option<&str>) -> DaemonMessage {
        let failed = |message: String| DaemonMessage::Failed { message, help: None };
        let Some(monitor) = self.monitor.borrow().clone() else { return failed("the cluster is not up yet".into()) };
        let over: Vec<String> = self.faults.borrow().values().filter(|now| now.healed).map(|now| now.id.clone()).collect();
        self.hand.ended(&over).await;
        let (id, mut state) = match self.hand.inject(fault, lasts, &monitor) {
            Ok(begun) => begun,
            Err(problems) => return DaemonMessage::Refused { problems: render(&problems, RenderStyle::default()) },
        };
        let known = state.wait_for(|state| state.failure.is_some() || !state.felt.is_empty()).await;
        let known = known.map(|state| (state.failure.clone(), state.felt.first().is_some_and(|felt| felt.after.is_some())));
        match known {
            Ok((Some(failure), _)) => failed(failure.message),
            // The corresponding event arrives a moment later.
            Ok((None, _)) => self.fault(&id, |now| now.evidence.iter().any(decides)).await,
            Err(_) => failed("the cluster is being torn down".into()),
        }
    }

    /// Returns one message per active fault.
    pub(super) fn in_force(&self) -> Vec<DaemonMessage> {
        self.faults.borrow().values().filter(|now| now.is_in_force()).map(|now| DaemonMessage::Fault(Box::new(now.clone()))).collect()
    }

    /// Heals a fault. Returns when the fault has no effect any more.
    pub(super) async fn heal(&self, id: &str) -> DaemonMessage {
        if self.hand.heal(id).await {
            return self.fault(id, |now| now.healed).await;
        }
        let known = self.hand.ids();
        let known = if known.is_empty() { "no fault is active".into() } else { format!("active: {}", known.join(", ")) };
        DaemonMessage::Failed { message: format!("no active fault `{id}`"), help: Some(known) }
    }

    /// Waits until the fault `id` satisfies `wanted`, but at most for [`TOLD_WITHIN`]. Returns the state of the fault at that time.
    async fn fault(&self, id: &str, wanted: impl Fn(&FaultNow) -> bool) -> DaemonMessage {
        let mut faults = self.faults.clone();
        let _ = tokio::time::timeout(TOLD_WITHIN, faults.wait_for(|faults| faults.get(id).is_some_and(&wanted))).await;
        match self.faults.borrow().get(id) {
            Some(now) => DaemonMessage::Fault(Box::new(now.clone())),
            None => DaemonMessage::Failed { message: format!("unknown fault `{id}`"), help: None },
        }
    }

    /// Restarts a node and waits until it is ready again.
    pub(super) async fn restart(&self, name: &str) -> Result<DaemonMessage, ClusterError> {
        let spec = self.spec.nodes.iter().find(|node| node.name == name).ok_or_else(|| ClusterError::NoSuchNode(name.into()))?;
        let began = Instant::now();
        let log = self.cluster.log_file(name);
        // Log lines that were written before this start do not explain a failure.
        let said = log.as_ref().and_then(|log| log.metadata().ok()).map_or(0, |log| log.len());
        let quoted = |problem: String| match log.as_ref().and_then(|log| tail::last_lines(log, said)) {
            Some(lines) => format!("{problem}; its log ends:\n{lines}"),
            None => problem,
        };
        self.cluster.restart(name, spec.stop_grace, Actor::Runner).await?;
        let within = spec.ready.as_ref().map_or(WITHIN, |ready| ready.within);
        let mut pause = FIRST_PAUSE;
        while let Err(last) = self.cluster.answers(name, ANSWERS.max(pause)).await {
            let state = self.cluster.status().into_iter().find(|now| now.node == name).map(|now| now.state);
            if let Some(NodeState::Exited { code, signal }) = state {
                let how = match (code, signal) {
                    (Some(code), _) => format!("it exited with code {code}"),
                    (None, signal) => format!("it was terminated by signal {}", signal.unwrap_or_default()),
                };
                return Err(ClusterError::Start { node: name.into(), problem: quoted(how) });
            }
            if began.elapsed() > within {
                return Err(ClusterError::NotReady { node: name.into(), within, last: quoted(last) });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
        let after_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(DaemonMessage::Node { role: spec.role.clone(), node: name.into(), step: ReadinessStep::Ready { after_us } })
    }
}

/// Returns true if the evidence shows whether the injection succeeded or failed.
fn decides(evidence: &ManualFaultEvidence) -> bool {
    evidence.step == EvidenceStep::Felt || (evidence.step == EvidenceStep::Installed && !evidence.ok)
}

/// Describes each invariant that does not hold in one line.
fn broken(state: &MonitorState) -> Vec<String> {
    let words = |brief: &chaosrun_monitor::Brief| {
        let whose = brief.node.as_ref().map_or(String::new(), |node| format!(" of {node}"));
        let is = if brief.unknown { "is unknown" } else { "does not hold" };
        format!("{}{whose} {is}: observed {}, expected {}", brief.invariant, brief.observed, brief.expected)
    };
    state.troubles.iter().map(words).collect()
}
