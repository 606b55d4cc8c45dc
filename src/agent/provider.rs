//! Providers: whoever decides what an agent does next. A script, a control, a model.

use async_trait::async_trait;
use thiserror::Error;

use super::task::CommandRecord;
use crate::event::{AgentEnd, Diagnosis};

/// Decides, turn after turn. The loop runs what it says, counts, and keeps the limits.
#[async_trait]
pub trait Provider: Send {
    /// The word of the variant's file: `scripted`, `noop`, ...
    fn name(&self) -> &'static str;

    /// The next turn, in the light of all commands so far. May wait; the loop drops the future when a limit is reached or
    /// the run is interrupted, and does not ask again.
    ///
    /// # Errors
    /// When the provider itself fails: the trial is invalid, not failed.
    async fn next(&mut self, commands: &[CommandRecord]) -> Result<Turn, ProviderError>;
}

/// What a provider says at once: any number of actions, done in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    pub actions: Vec<Action>,
    pub usage: Usage,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Run {
        command: String,
        reasoning: String,
    },
    Diagnose(Diagnosis),
    /// What follows in the turn is not done.
    End {
        end: AgentEnd,
        detail: String,
    },
}

/// What a turn costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// 1, or 0 for a mere repetition.
    pub turns: u32,
    pub tokens: u64,
    pub usd: f64,
}

#[derive(Debug, Error)]
#[error("{0}")]
pub struct ProviderError(pub String);

impl Turn {
    /// One action, counted as a turn.
    #[must_use]
    pub fn of(action: Action) -> Self {
        Self { actions: vec![action], usage: Usage { turns: 1, ..Usage::default() } }
    }

    #[must_use]
    pub fn run(command: impl Into<String>, reasoning: impl Into<String>) -> Self {
        Self::of(Action::Run { command: command.into(), reasoning: reasoning.into() })
    }

    /// The end, which costs nothing.
    #[must_use]
    pub fn end(end: AgentEnd, detail: impl Into<String>) -> Self {
        Self { actions: vec![Action::End { end, detail: detail.into() }], usage: Usage::default() }
    }
}
