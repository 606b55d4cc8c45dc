//! Control agents. Their results show whether a scenario can distinguish good agents from bad ones. They use the same shell as all agents.

use std::collections::VecDeque;

use async_trait::async_trait;
use tokio::sync::watch;

use super::context::Contexts;
use super::provider::{AgentProvider, ProviderError};
use super::task::{ActiveFault, AgentTask, AgentView, CommandRecord};
use super::turn::{ProviderAction, ProviderTurn};
use chaosrun_event::{AgentEnd, Diagnosis};
use chaosrun_expr::Template;
use chaosrun_scenario::model::Heal;

/// Control agent that ends its session at once without any action.
pub(super) struct Noop;

#[async_trait]
impl AgentProvider for Noop {
    async fn next(&mut self, _commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError> {
        Ok(ProviderTurn::end(AgentEnd::NoAction, "does nothing"))
    }
}

/// Control agent that restarts every node, one after the other.
pub(super) struct RestartAll {
    left: VecDeque<String>,
}

impl RestartAll {
    pub fn new(task: &AgentTask) -> Self {
        Self { left: task.cluster.topology().nodes.iter().map(|node| node.name.clone()).collect() }
    }
}

#[async_trait]
impl AgentProvider for RestartAll {
    async fn next(&mut self, _commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError> {
        Ok(match self.left.pop_front() {
            Some(node) => ProviderTurn::run(format!("docker restart {node}"), "Every node is restarted."),
            None => ProviderTurn::end(AgentEnd::Resolve, "every node was restarted"),
        })
    }
}

/// Control agent that reverts the faults and then waits until all objectives hold. Only this control may read the injected faults.
pub(super) struct Oracle {
    truth: watch::Receiver<Vec<ActiveFault>>,
    view: watch::Receiver<AgentView>,
    /// Fault ids and targets of all faults that this control has already reverted.
    undone: Vec<(String, String)>,
    known: Vec<ActiveFault>,
    /// Ids of the faults for which this control has already submitted a diagnosis.
    diagnosed: Vec<String>,
    /// Number of faults that the scenario injects.
    faults: usize,
    /// Commands of the scenario's solution, which replace the repair commands of the faults. `None` if the scenario has no solution.
    solution: Option<VecDeque<Template>>,
    /// Builder of the template variables for repair commands that the scenario declares.
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

    /// Returns a turn with the next command that reverts a fault, or `None` if all known faults are reverted.
    fn undo(&mut self) -> Result<Option<ProviderTurn>, ProviderError> {
        let faults = self.truth.borrow_and_update().clone();
        if let Some(solution) = &mut self.solution {
            self.known.clone_from(&faults);
            let Some(next) = solution.pop_front() else { return Ok(None) };
            let command = next.render(&self.contexts.with_truth(&faults)).map_err(|unknown| ProviderError(unknown.to_string()))?;
            return Ok(Some(ProviderTurn::run(command, "Read from the scenario.")));
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
                let reasoning = format!("Undoes {} on {target}.", fault.fault);
                if let Some(repair) = &fault.repair {
                    let command = repair.render(&self.contexts.now()).map_err(|unknown| ProviderError(unknown.to_string()))?;
                    return Ok(Some(ProviderTurn::run(command, reasoning)));
                }
                if let Some(command) = fault.repair_commands.get(target) {
                    return Ok(Some(ProviderTurn::run(command, reasoning)));
                }
            }
        }
        Ok(None)
    }

    /// Returns one diagnosis per fault that has not been diagnosed yet.
    fn diagnoses(&mut self) -> Vec<ProviderAction> {
        let actions: Vec<String> = self.undone.iter().map(|(fault, target)| format!("undid {fault} on {target}")).collect();
        let new: Vec<&ActiveFault> = self.known.iter().filter(|fault| !self.diagnosed.contains(&fault.id)).collect();
        self.diagnosed.extend(new.iter().map(|fault| fault.id.clone()));
        let diagnosis = |fault: &ActiveFault| Diagnosis {
            root_cause: format!("{} on {}", fault.fault, fault.targets.join(", ")),
            component: fault.targets.first().cloned().unwrap_or_default(),
            fault_class: fault.class.clone(),
            confidence: 1.0,
            actions: actions.clone(),
            ..Diagnosis::default()
        };
        new.into_iter().map(|fault| ProviderAction::Diagnose(diagnosis(fault))).collect()
    }
}

#[async_trait]
impl AgentProvider for Oracle {
    async fn next(&mut self, _commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError> {
        loop {
            if let Some(turn) = self.undo()? {
                return Ok(turn);
            }
            let actions = self.diagnoses();
            if !actions.is_empty() {
                return Ok(ProviderTurn { actions, counts: 1 });
            }
            // Faults that cannot be repaired are handed over to a person.
            if self.truth.borrow().iter().any(|fault| fault.heal == Heal::Never) {
                return Ok(ProviderTurn::end(AgentEnd::Escalate, "only the environment can heal this fault"));
            }
            if self.known.len() >= self.faults && self.view.borrow_and_update().healthy {
                return Ok(ProviderTurn::end(AgentEnd::Resolve, "every fault is undone and all objectives hold"));
            }
            // Either may change first. A closed sender changes nothing more.
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
