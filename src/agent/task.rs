//! What an agent is given, and what it leaves.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::model::cassette::ToRecord;
use super::outside::Served;
use super::provider::Blame;
use crate::action::Desk;
use crate::cluster::{Cluster, Seat};
use crate::emit::Emitter;
use crate::event::{AgentEnd, Diagnosis, Output, Ticket};
use crate::expr::{Template, Value};
use crate::monitor::Series;
use crate::scenario::model::{Action, Heal, Limits, Tool, Variant};

/// One agent on one trouble.
pub struct AgentTask {
    pub subject: Subject,
    /// The smallest of scenario and variant; `wall` is in `deadline` already.
    pub limits: Limits,
    /// When the wall limit is over: it counts from the ticket.
    pub deadline: Instant,
    /// The ticket that started it.
    pub ticket: u32,
    /// What the agent may know, kept current by the monitor.
    pub view: watch::Receiver<AgentView>,
    /// The faults that are active now. Read by the oracle and by the commands of a check alone.
    pub truth: watch::Receiver<Vec<ActiveFault>>,
    pub cluster: Arc<dyn Cluster>,
    /// Where the whole text of a long output is kept: `commands/3.stdout` below it. The agent does not see it.
    pub run_dir: PathBuf,
    /// Where it works.
    pub seat: Seat,
    pub emitter: Emitter,
    /// An interrupt of the run.
    pub cancel: CancellationToken,
    pub seed: u64,
    /// Counts the commands that were begun: faults may wait for them.
    pub begun: watch::Sender<u32>,
    /// What the oracle runs in place of the faults' own repairs; none = those.
    pub solution: Vec<Template>,
    /// How many faults will come in all: the oracle is not done before it has seen them.
    pub faults: usize,
    /// Of stand-in nodes: `cluster.scale` in expressions.
    pub clock_scale: Option<f64>,
    /// What is served to an agent that is a program, or why nothing is; none for any other.
    pub served: Option<Result<Served, String>>,
    /// Where what passes between it and its model is to be written.
    pub record: Option<ToRecord>,
    /// Of a variant that lives on cassettes: the one of this trial.
    pub cassette: Option<PathBuf>,
    /// What the cluster's actions are carried out on; none: there are none.
    pub desk: Option<Desk>,
}

impl AgentTask {
    /// What `act` may do.
    #[must_use]
    pub fn actions(&self) -> &IndexMap<String, Action> {
        static NONE: LazyLock<IndexMap<String, Action>> = LazyLock::new(IndexMap::new);
        self.desk.as_ref().map_or(&NONE, |desk| &desk.spec.actions)
    }
}

/// Who acts.
#[derive(Debug, Clone)]
pub enum Subject {
    Variant(Arc<Variant>),
    /// The commands of a `check`, one after the other; then it resolves.
    Commands {
        name: String,
        commands: Vec<Template>,
    },
}

/// What the monitor knows, as far as an agent may.
#[derive(Debug, Clone, Default)]
pub struct AgentView {
    /// Of this trial, closed ones too.
    pub tickets: Vec<TicketView>,
    /// The newest observations by name: `observe` in expressions. Undefined = none.
    pub observe: Value,
    /// Their numbers over the last while.
    pub series: Arc<Series>,
    /// Whether all objectives hold now: `healthy` in expressions. The oracle waits for it.
    pub healthy: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TicketView {
    pub ticket: Ticket,
    pub open: bool,
}

/// A fault that was injected and is not healed.
#[derive(Debug, Clone)]
pub struct ActiveFault {
    /// Its key below `chaos`.
    pub id: String,
    /// `node_kill`, ...
    pub fault: String,
    pub targets: Vec<String>,
    /// The other ends of the links it is on.
    pub linked: Vec<String>,
    /// What a diagnosis calls it.
    pub class: String,
    pub heal: Heal,
    /// What repairs it in an agent's shell, by target.
    pub cures: IndexMap<String, String>,
    /// The same, once a target, when the scenario says so.
    pub repair: Option<Template>,
}

/// One command, as it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandRecord {
    /// From 1.
    pub number: u32,
    /// By which tool.
    pub tool: Tool,
    pub command: String,
    pub reasoning: String,
    /// What an action asked of the system, as it would be said in a shell.
    pub did: Vec<String>,
    /// 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// The command limit, or the wall limit, ended it.
    pub timed_out: bool,
    pub stdout: Output,
    pub stderr: Output,
    pub took: Duration,
}

/// What became of it. When it is there, nothing the agent started runs any more.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentReport {
    pub end: AgentEnd,
    /// Why, in words.
    pub detail: String,
    /// Whose fault an [`AgentEnd::Error`] is.
    pub blame: Blame,
    /// In the order in which they were handed in.
    pub diagnoses: Vec<Diagnosis>,
    pub commands: Vec<CommandRecord>,
    pub turns: u32,
    pub tokens: u64,
    pub usd: f64,
    pub took: Duration,
}

impl AgentReport {
    /// The last one that was handed in.
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
