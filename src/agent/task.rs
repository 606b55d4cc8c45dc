//! What an agent is given, and what it leaves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Seat};
use crate::emit::Emitter;
use crate::event::{AgentEnd, Diagnosis, Output, Ticket};
use crate::expr::{Template, Value};
use crate::scenario::model::{Heal, Limits, Variant};

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
    /// Of stand-in nodes: `cluster.scale` in expressions.
    pub clock_scale: Option<f64>,
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
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentView {
    /// Of this trial, closed ones too.
    pub tickets: Vec<TicketView>,
    /// The newest observations by name: `observe` in expressions. Undefined = none.
    pub observe: Value,
    /// Whether all objectives hold now. Only the oracle waits for it.
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
    pub heal: Heal,
    /// What an agent could run to repair it, when the scenario says so.
    pub repair: Option<Template>,
}

/// One command, as it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandRecord {
    /// From 1.
    pub number: u32,
    pub command: String,
    pub reasoning: String,
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
    /// The last one submitted.
    pub diagnosis: Option<Diagnosis>,
    pub commands: Vec<CommandRecord>,
    pub turns: u32,
    pub tokens: u64,
    pub usd: f64,
    pub took: Duration,
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
