//! Providers: whoever decides what an agent does next. A script, a control, a model.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::model::Spent;
use super::observe::Asked;
use super::shell::Shell;
use super::task::CommandRecord;
use crate::action::Call;
use crate::event::{AgentEnd, Diagnosis};

/// Decides, turn after turn. The loop runs what it says, counts, and keeps the limits.
#[async_trait]
pub trait Provider: Send {
    /// The word of the variant's file: `scripted`, `noop`, ...
    fn name(&self) -> &'static str;

    /// Before the first turn, for whoever has more to start than commands.
    ///
    /// # Errors
    /// As [`Provider::next`].
    async fn begin(&mut self, _shell: &mut Shell) -> Result<(), ProviderError> {
        Ok(())
    }

    /// The next turn, in the light of all commands so far. May wait; the loop drops the future when a limit is reached or
    /// the run is interrupted, and does not ask again.
    ///
    /// # Errors
    /// When the provider itself fails: the trial is invalid, not failed.
    async fn next(&mut self, commands: &[CommandRecord]) -> Result<Turn, ProviderError>;

    /// After the last turn, before all that was started is ended.
    async fn over(&mut self, _by_itself: bool) {}

    /// What it has cost so far, also when the future of [`Provider::next`] was dropped.
    fn spent(&self) -> Spent {
        Spent::default()
    }

    /// How long others have kept it from its work so far: a server that fails or is silent.
    fn kept_waiting(&self) -> Option<Kept> {
        None
    }

    /// After the last turn: what it has to finish.
    ///
    /// # Errors
    /// In words: what is not as it should be. The trial goes on.
    fn close(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Who is to blame when [`Provider::next`] has failed.
    fn blame(&self) -> Blame {
        Blame::Environment
    }
}

/// Time that was lost, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub lost: Duration,
    pub why: String,
}

/// Who is to blame for a failure that is not the agent's: the word of a trial's reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Blame {
    #[default]
    Environment,
    /// Whoever serves the model.
    Provider,
    /// It was recorded of something else, or is at its end.
    Cassette,
}

impl Blame {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Provider => "provider",
            Self::Cassette => "cassette",
        }
    }
}

/// What a provider says at once: any number of actions, done in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    pub actions: Vec<Action>,
    /// What it counts against the limit of turns: 1, or 0 for a mere repetition and for an end.
    pub counts: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Run {
        command: String,
        reasoning: String,
    },
    /// It has run a command itself, and says so.
    Report(Reported),
    /// An action of the cluster.
    Act {
        call: Call,
        reasoning: String,
    },
    /// A look at what the monitor sees.
    Observe {
        asked: Asked,
        reasoning: String,
    },
    Diagnose(Diagnosis),
    /// What follows in the turn is not done.
    End {
        end: AgentEnd,
        detail: String,
    },
}

/// A command as whoever ran it tells of it.
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

impl Action {
    /// Whether it becomes a command of the record.
    #[must_use]
    pub const fn is_command(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Report(_) | Self::Act { .. } | Self::Observe { .. })
    }
}

impl Turn {
    /// One action, counted as a turn.
    #[must_use]
    pub fn of(action: Action) -> Self {
        Self { actions: vec![action], counts: 1 }
    }

    #[must_use]
    pub fn run(command: impl Into<String>, reasoning: impl Into<String>) -> Self {
        Self::of(Action::Run { command: command.into(), reasoning: reasoning.into() })
    }

    /// The end, which costs nothing.
    #[must_use]
    pub fn end(end: AgentEnd, detail: impl Into<String>) -> Self {
        Self { actions: vec![Action::End { end, detail: detail.into() }], counts: 0 }
    }
}
