//! Providers, which decide the next turn of an agent: a script, a control or a model.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::observe::ObserveRequest;
use super::shell::Shell;
use super::task::CommandRecord;
use chaosrun_action::ActionCall;
use chaosrun_event::{AgentEnd, Blame, Diagnosis};
use chaosrun_models::Spent;

/// Provider, which decides turn after turn. The loop runs the turn, counts it and enforces the limits.
#[async_trait]
pub trait AgentProvider: Send {
    /// Name of the provider in the variant's file: `scripted`, `noop`, ...
    fn name(&self) -> &'static str;

    /// Runs before the first turn, for a provider that starts a program.
    ///
    /// # Errors
    /// Same errors as [`AgentProvider::next`].
    async fn begin(&mut self, _shell: &mut Shell) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Returns the next turn, based on all commands so far. The future may wait. The loop drops it when a limit is reached or the
    /// run is interrupted, and does not call it again.
    ///
    /// # Errors
    /// The provider itself fails. The trial is then invalid, not failed.
    async fn next(&mut self, commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError>;

    /// Runs after the last turn, before all started processes are ended.
    async fn over(&mut self, _by_itself: bool) {}

    /// Returns the cost so far, also if the future of [`AgentProvider::next`] was dropped.
    fn spent(&self) -> Spent {
        Spent::default()
    }

    /// Returns the time lost so far to a server that fails or is silent.
    fn kept_waiting(&self) -> Option<LostTime> {
        None
    }

    /// Finishes the provider after the last turn.
    ///
    /// # Errors
    /// A description of the problem. The trial continues.
    fn close(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Returns the party that is to blame if [`AgentProvider::next`] failed.
    fn blame(&self) -> Blame {
        Blame::Environment
    }
}

/// Lost time and its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostTime {
    pub lost: Duration,
    pub why: String,
}

/// Turn of a provider: any number of actions, performed in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProviderTurn {
    pub actions: Vec<ProviderAction>,
    /// Number that counts against the limit of turns: 0 for a repetition and for an end, otherwise 1.
    pub counts: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ProviderAction {
    Run {
        command: String,
        reasoning: String,
    },
    /// Reports a command that the provider has run itself.
    Report(Reported),
    /// Performs an action of the cluster.
    Act {
        call: ActionCall,
        reasoning: String,
    },
    /// Shows observations of the monitor.
    Observe {
        asked: ObserveRequest,
        reasoning: String,
    },
    Diagnose(Diagnosis),
    /// Ends the session. Later actions of the turn are ignored.
    End {
        end: AgentEnd,
        detail: String,
    },
}

/// Command that was run outside the loop, as reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    pub command: String,
    pub reasoning: String,
    pub exit_code: i32,
    pub output: String,
}

#[derive(Debug, Error)]
#[error("{0}")]
pub struct ProviderError(pub String);

impl ProviderAction {
    /// Returns true if the action becomes a command in the record.
    #[must_use]
    pub const fn is_command(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Report(_) | Self::Act { .. } | Self::Observe { .. })
    }
}

impl ProviderTurn {
    /// Creates a turn with one action, which counts.
    #[must_use]
    pub fn of(action: ProviderAction) -> Self {
        Self { actions: vec![action], counts: 1 }
    }

    #[must_use]
    pub fn run(command: impl Into<String>, reasoning: impl Into<String>) -> Self {
        Self::of(ProviderAction::Run { command: command.into(), reasoning: reasoning.into() })
    }

    /// Creates a turn that ends the session and does not count.
    #[must_use]
    pub fn end(end: AgentEnd, detail: impl Into<String>) -> Self {
        Self { actions: vec![ProviderAction::End { end, detail: detail.into() }], counts: 0 }
    }
}
