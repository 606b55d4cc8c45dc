//! The controls: agents that tell whether a scenario measures anything. They act through the same shell as all.

use std::collections::VecDeque;

use async_trait::async_trait;
use tokio::sync::watch;

use super::context::Contexts;
use super::provider::{Action, Provider, ProviderError, Turn};
use super::task::{ActiveFault, AgentTask, AgentView, CommandRecord};
use crate::event::{AgentEnd, Diagnosis};
use crate::expr::Template;
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
    /// Faults that it has told of.
    diagnosed: Vec<String>,
    /// How many will come.
    faults: usize,
    /// What the scenario spells out, in place of the faults' own repairs.
    solution: Option<VecDeque<Template>>,
    /// For repairs that the scenario spells out.
    contexts: Contexts,
}

impl Oracle {
    pub fn new(task: &AgentTask) -> Self {
        let (truth, view) = (task.truth.clone(), task.view.clone());
        let solution = (!task.solution.is_empty()).then(|| task.solution.iter().cloned().collect());
        Self {
            truth,
            view,
            undone: Vec::new(),
            known: Vec::new(),
            diagnosed: Vec::new(),
            faults: task.faults,
            solution,
            contexts: Contexts::new(task),
        }
    }

    /// The next command that undoes something.
    fn undo(&mut self) -> Result<Option<Turn>, ProviderError> {
        let faults = self.truth.borrow_and_update().clone();
        if let Some(solution) = &mut self.solution {
            self.known.clone_from(&faults);
            let Some(next) = solution.pop_front() else { return Ok(None) };
            let command = next.render(&self.contexts.with_truth(&faults)).map_err(|unknown| ProviderError(unknown.to_string()))?;
            return Ok(Some(Turn::run(command, "As the scenario says.")));
        }
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
                if let Some(command) = fault.cures.get(target) {
                    return Ok(Some(Turn::run(command, reasoning)));
                }
            }
        }
        Ok(None)
    }

    /// One a fault that it has not told of yet.
    fn diagnoses(&mut self) -> Vec<Action> {
        let actions: Vec<String> = self.undone.iter().map(|(fault, target)| format!("undid {fault} of {target}")).collect();
        let new: Vec<&ActiveFault> = self.known.iter().filter(|fault| !self.diagnosed.contains(&fault.id)).collect();
        self.diagnosed.extend(new.iter().map(|fault| fault.id.clone()));
        let diagnosis = |fault: &ActiveFault| Diagnosis {
            root_cause: format!("{} of {}", fault.fault, fault.targets.join(", ")),
            component: fault.targets.first().cloned().unwrap_or_default(),
            fault_class: fault.class.clone(),
            confidence: 1.0,
            actions: actions.clone(),
            ..Diagnosis::default()
        };
        new.into_iter().map(|fault| Action::Diagnose(diagnosis(fault))).collect()
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
            let actions = self.diagnoses();
            if !actions.is_empty() {
                return Ok(Turn { actions, counts: 1 });
            }
            // What nobody may repair is for people.
            if self.truth.borrow().iter().any(|fault| fault.heal == Heal::Never) {
                return Ok(Turn::end(AgentEnd::Escalate, "only the environment could heal this"));
            }
            if self.known.len() >= self.faults && self.view.borrow_and_update().healthy {
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
