//! The controls: agents that tell whether a scenario measures anything. They act through the same shell as all.

use std::collections::VecDeque;

use async_trait::async_trait;
use tokio::sync::watch;

use super::context::Contexts;
use super::provider::{Action, Provider, ProviderError, Turn};
use super::task::{ActiveFault, AgentTask, AgentView, CommandRecord};
use crate::event::{AgentEnd, Diagnosis};
use crate::scenario::model::Heal;

/// Ends at once, and has done nothing.
pub(super) struct Noop;

#[async_trait]
impl Provider for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }

    async fn next(&mut self, _commands: &[CommandRecord]) -> Result<Turn, ProviderError> {
        Ok(Turn::end(AgentEnd::NoAction, "does nothing"))
    }
}

/// Restarts every node, one after the other.
pub(super) struct RestartAll {
    left: VecDeque<String>,
}

impl RestartAll {
    pub fn new(task: &AgentTask) -> Self {
        Self { left: task.cluster.topology().nodes.iter().map(|node| node.name.clone()).collect() }
    }
}

#[async_trait]
impl Provider for RestartAll {
    fn name(&self) -> &'static str {
        "restart_all"
    }

    async fn next(&mut self, _commands: &[CommandRecord]) -> Result<Turn, ProviderError> {
        Ok(match self.left.pop_front() {
            Some(node) => Turn::run(format!("docker restart {node}"), "Every node is restarted."),
            None => Turn::end(AgentEnd::Resolve, "every node was restarted"),
        })
    }
}

/// Undoes the faults, which it alone may see, then waits until all objectives hold.
pub(super) struct Oracle {
    truth: watch::Receiver<Vec<ActiveFault>>,
    view: watch::Receiver<AgentView>,
    /// (fault, target) already undone.
    undone: Vec<(String, String)>,
    known: Vec<ActiveFault>,
    diagnosed: bool,
    /// For repairs that the scenario spells out.
    contexts: Contexts,
}

impl Oracle {
    pub fn new(task: &AgentTask) -> Self {
        let (truth, view) = (task.truth.clone(), task.view.clone());
        Self { truth, view, undone: Vec::new(), known: Vec::new(), diagnosed: false, contexts: Contexts::new(task) }
    }

    /// The next command that undoes something.
    fn undo(&mut self) -> Result<Option<Turn>, ProviderError> {
        let faults = self.truth.borrow_and_update().clone();
        for fault in &faults {
            if !self.known.iter().any(|known| known.id == fault.id) {
                self.known.push(fault.clone());
            }
            if fault.heal != Heal::Agent {
                continue;
            }
            for target in &fault.targets {
                let pair = (fault.id.clone(), target.clone());
                if self.undone.contains(&pair) {
                    continue;
                }
                self.undone.push(pair);
                let reasoning = format!("Undoes {} of {target}.", fault.fault);
                if let Some(repair) = &fault.repair {
                    let command = repair.render(&self.contexts.now()).map_err(|unknown| ProviderError(unknown.to_string()))?;
                    return Ok(Some(Turn::run(command, reasoning)));
                }
                let (verb, _) = cure(&fault.fault).ok_or_else(|| ProviderError(format!("no cure for the fault `{}`", fault.fault)))?;
                return Ok(Some(Turn::run(format!("docker {verb} {target}"), reasoning)));
            }
        }
        Ok(None)
    }

    fn diagnosis(&self) -> Option<Diagnosis> {
        let fault = self.known.first()?;
        let class = match fault.fault.as_str() {
            // Nothing an agent does cures it, but it has a name.
            "network_partition" => "network_partition",
            fault => cure(fault).map_or("unknown", |(_, class)| class),
        };
        Some(Diagnosis {
            root_cause: format!("{} of {}", fault.fault, fault.targets.join(", ")),
            component: fault.targets.first().cloned().unwrap_or_default(),
            fault_class: class.into(),
            confidence: 1.0,
            evidence: Vec::new(),
            actions: self.undone.iter().map(|(fault, target)| format!("undid {fault} of {target}")).collect(),
        })
    }
}

/// The verb of the engine that undoes a fault, and the fault's class.
fn cure(fault: &str) -> Option<(&'static str, &'static str)> {
    match fault {
        "node_kill" => Some(("start", "process_crash")),
        "node_stop" => Some(("start", "process_stop")),
        "node_pause" => Some(("unpause", "process_hang")),
        _ => None,
    }
}

#[async_trait]
impl Provider for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    async fn next(&mut self, _commands: &[CommandRecord]) -> Result<Turn, ProviderError> {
        loop {
            if let Some(turn) = self.undo()? {
                return Ok(turn);
            }
            if let (false, Some(diagnosis)) = (self.diagnosed, self.diagnosis()) {
                self.diagnosed = true;
                return Ok(Turn::of(Action::Diagnose(diagnosis)));
            }
            // What nobody may repair is for people.
            if self.truth.borrow().iter().any(|fault| fault.heal == Heal::Never) {
                return Ok(Turn::end(AgentEnd::Escalate, "only the environment could heal this"));
            }
            if self.view.borrow_and_update().healthy {
                return Ok(Turn::end(AgentEnd::Resolve, "every fault is undone and all objectives hold"));
            }
            // Either may change first; a sender that is gone changes nothing more.
            let (truth, view) = (&mut self.truth, &mut self.view);
            tokio::select! {
                () = changed(truth) => {}
                () = changed(view) => {}
            }
        }
    }
}

async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
