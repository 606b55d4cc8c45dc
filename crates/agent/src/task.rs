//! Input and result types of an agent.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::endpoint::Served;
use chaosrun_action::ActionContext;
use chaosrun_cluster::{Cluster, Workspace};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{AgentEnd, Blame, Diagnosis, Output, Ticket};
use chaosrun_expr::{Template, Value};
use chaosrun_models::cassette::ToRecord;
use chaosrun_monitor::ObservedSeries;
use chaosrun_scenario::model::{Action, Heal, Limits, Tool, Variant};

/// Task of one agent, which repairs the system after a ticket.
pub struct AgentTask {
    pub subject: Subject,
    /// Limits of the agent: the stricter of the limits of the scenario and the variant. `wall` is already included in `deadline`.
    pub limits: Limits,
    /// Time at which the wall-clock limit ends. The limit starts when the ticket is opened.
    pub deadline: Instant,
    /// Number of the ticket that started the agent.
    pub ticket: u32,
    /// Receiver of the state that the agent may see. The monitor updates this state.
    pub view: watch::Receiver<AgentView>,
    /// Receiver of the currently active faults. Only the oracle and the commands of a check read the faults.
    pub truth: watch::Receiver<Vec<ActiveFault>>,
    pub cluster: Arc<dyn Cluster>,
    /// Run directory, which stores the full text of long outputs, such as `commands/3.stdout`. The agent cannot access it.
    pub run_dir: PathBuf,
    /// Workspace of the agent.
    pub workspace: Workspace,
    pub emitter: Emitter,
    /// Token that is cancelled when the run is interrupted.
    pub cancel: CancellationToken,
    pub seed: u64,
    /// Sender of the number of commands started so far. Faults may be timed by this number.
    pub begun: watch::Sender<u32>,
    /// Commands that the oracle runs instead of the repair commands of the faults. Empty if the oracle runs those repair commands.
    pub solution: Vec<Template>,
    /// Number of faults that the scenario injects. The oracle waits until all of them have been injected.
    pub faults: usize,
    /// Clock scale of stand-in nodes, which expressions read as `cluster.scale`.
    pub clock_scale: Option<f64>,
    /// Endpoints for an external agent, or the reason why they could not be created. `None` for any other agent.
    pub served: Option<Result<Served, String>>,
    /// Cassette into which the exchanges with models are recorded. `None` if nothing is recorded.
    pub record: Option<ToRecord>,
    /// Path of the cassette that is replayed in this trial. `None` if the variant does not replay cassettes.
    pub cassette: Option<PathBuf>,
    /// Context in which the cluster's actions run. `None` if there are no actions.
    pub action_context: Option<ActionContext>,
}

impl AgentTask {
    /// Returns the actions that the tool `act` offers.
    #[must_use]
    pub fn actions(&self) -> &IndexMap<String, Action> {
        static NONE: LazyLock<IndexMap<String, Action>> = LazyLock::new(IndexMap::new);
        self.action_context.as_ref().map_or(&NONE, |action_context| &action_context.spec.actions)
    }
}

/// Kind of agent that works on the task.
#[derive(Debug, Clone)]
pub enum Subject {
    Variant(Arc<Variant>),
    /// Commands of a `check`, which run in order. After the last command, the session ends as resolved.
    Commands {
        name: String,
        commands: Vec<Template>,
    },
}

/// State of the monitor that an agent may see.
#[derive(Debug, Clone, Default)]
pub struct AgentView {
    /// Tickets of this trial, including closed ones.
    pub tickets: Vec<TicketView>,
    /// Newest observations by name, which expressions read as `observe`. Undefined if the trial has no monitor.
    pub observe: Value,
    /// Recent numeric values of the observations.
    pub series: Arc<ObservedSeries>,
    /// True if all objectives hold now. Expressions read this value as `healthy`, and the oracle waits until it is true.
    pub healthy: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TicketView {
    pub ticket: Ticket,
    pub open: bool,
}

/// Injected fault that has not been healed.
#[derive(Debug, Clone)]
pub struct ActiveFault {
    /// Key of the fault in the section `chaos` of the scenario.
    pub id: String,
    /// Name of the fault type, such as `node_kill`.
    pub fault: String,
    pub targets: Vec<String>,
    /// Nodes at the other ends of the links that the fault affects.
    pub linked: Vec<String>,
    /// Fault class that a correct diagnosis names.
    pub class: String,
    pub heal: Heal,
    /// Shell commands that repair the fault, by the name of the affected node.
    pub repair_commands: IndexMap<String, String>,
    /// Repair command that the scenario declares. It runs once per target. `None` if the scenario declares none.
    pub repair: Option<Template>,
}

/// Record of one command of an agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandRecord {
    /// Number of the command in the trial, from 1.
    pub number: u32,
    /// Tool with which the agent issued the command.
    pub tool: Tool,
    pub command: String,
    pub reasoning: String,
    /// Requests that an action sent to the system, written as equivalent shell commands.
    pub did: Vec<String>,
    /// Exit code, or 128 + signal if a signal ended the command.
    pub exit_code: i32,
    /// True if the time limit of a command or of the session ended the command.
    pub timed_out: bool,
    pub stdout: Output,
    pub stderr: Output,
    pub took: Duration,
}

/// Result of an agent's session. All processes that the agent started have exited when this value exists.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentReport {
    pub end: AgentEnd,
    /// Explanation of the reason for which the session ended.
    pub detail: String,
    /// Party that is to blame if the session ended with [`AgentEnd::Error`].
    pub blame: Blame,
    /// Submitted diagnoses, in the order of submission.
    pub diagnoses: Vec<Diagnosis>,
    pub commands: Vec<CommandRecord>,
    pub turns: u32,
    pub tokens: u64,
    pub usd: f64,
    pub took: Duration,
}

impl AgentReport {
    /// Returns the last submitted diagnosis, or `None` if no diagnosis was submitted.
    #[must_use]
    pub fn diagnosis(&self) -> Option<&Diagnosis> {
        self.diagnoses.last()
    }
}

impl Subject {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Variant(variant) => &variant.name,
            Self::Commands { name, .. } => name,
        }
    }
}
