//! Input and result of an agent.

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

/// Task of one agent, started by one ticket.
pub struct AgentTask {
    pub subject: Subject,
    /// Smallest limits of scenario and variant. `wall` is already part of `deadline`.
    pub limits: Limits,
    /// End of the wall limit, which counts from the ticket.
    pub deadline: Instant,
    /// Ticket that started the agent.
    pub ticket: u32,
    /// State that the agent may know, updated by the monitor.
    pub view: watch::Receiver<AgentView>,
    /// Currently active faults. Only the oracle and the commands of a check read them.
    pub truth: watch::Receiver<Vec<ActiveFault>>,
    pub cluster: Arc<dyn Cluster>,
    /// Run directory for the full text of long outputs, such as `commands/3.stdout`. The agent does not see it.
    pub run_dir: PathBuf,
    /// Workspace of the agent.
    pub workspace: Workspace,
    pub emitter: Emitter,
    /// Cancelled when the run is interrupted.
    pub cancel: CancellationToken,
    pub seed: u64,
    /// Number of started commands. Faults may wait for it.
    pub begun: watch::Sender<u32>,
    /// Commands that the oracle runs instead of the faults' own repairs. Empty selects those repairs.
    pub solution: Vec<Template>,
    /// Total number of faults. The oracle does not end before it has seen all.
    pub faults: usize,
    /// Clock scale of stand-in nodes: `cluster.scale` in expressions.
    pub clock_scale: Option<f64>,
    /// Endpoints for an external agent, or the error. `None` for any other agent.
    pub served: Option<Result<Served, String>>,
    /// Cassette to which model exchanges are recorded.
    pub record: Option<ToRecord>,
    /// Cassette of this trial, for a variant that replays cassettes.
    pub cassette: Option<PathBuf>,
    /// Context in which the cluster's actions run. `None` if there are no actions.
    pub action_context: Option<ActionContext>,
}

impl AgentTask {
    /// Returns the actions that `act` offers.
    #[must_use]
    pub fn actions(&self) -> &IndexMap<String, Action> {
        static NONE: LazyLock<IndexMap<String, Action>> = LazyLock::new(IndexMap::new);
        self.action_context.as_ref().map_or(&NONE, |action_context| &action_context.spec.actions)
    }
}

/// Agent that acts.
#[derive(Debug, Clone)]
pub enum Subject {
    Variant(Arc<Variant>),
    /// Commands of a `check`, run in order. The session then ends as resolved.
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
    /// Newest observations by name: `observe` in expressions. Undefined without a monitor.
    pub observe: Value,
    /// Recent numbers of the observations.
    pub series: Arc<ObservedSeries>,
    /// True if all objectives hold now: `healthy` in expressions. The oracle waits for it.
    pub healthy: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TicketView {
    pub ticket: Ticket,
    pub open: bool,
}

/// Fault that was injected and is not healed.
#[derive(Debug, Clone)]
pub struct ActiveFault {
    /// Key of the fault below `chaos`.
    pub id: String,
    /// Name of the fault type, such as `node_kill`.
    pub fault: String,
    pub targets: Vec<String>,
    /// Other ends of the affected links.
    pub linked: Vec<String>,
    /// Fault class in diagnoses.
    pub class: String,
    pub heal: Heal,
    /// Commands that repair the fault in an agent's shell, by target.
    pub repair_commands: IndexMap<String, String>,
    /// Repair command of the scenario, run once per target. `None` if the scenario declares none.
    pub repair: Option<Template>,
}

/// Record of one command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandRecord {
    /// Number of the command, from 1.
    pub number: u32,
    /// Tool of the command.
    pub tool: Tool,
    pub command: String,
    pub reasoning: String,
    /// Operations of an action on the system, written as shell commands.
    pub did: Vec<String>,
    /// Exit code, or 128 + signal if a signal ended the command.
    pub exit_code: i32,
    /// True if the command limit or the wall limit ended it.
    pub timed_out: bool,
    pub stdout: Output,
    pub stderr: Output,
    pub took: Duration,
}

/// Result of an agent. All processes that the agent started are gone when it exists.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentReport {
    pub end: AgentEnd,
    /// Reason for the end, in words.
    pub detail: String,
    /// Party to blame for an [`AgentEnd::Error`].
    pub blame: Blame,
    /// Diagnoses in the order of submission.
    pub diagnoses: Vec<Diagnosis>,
    pub commands: Vec<CommandRecord>,
    pub turns: u32,
    pub tokens: u64,
    pub usd: f64,
    pub took: Duration,
}

impl AgentReport {
    /// Returns the last submitted diagnosis.
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
