//! Providers, which decide the next turn of an agent: a script, a control or a model.

use async_trait::async_trait;
use thiserror::Error;

use super::cost::LostTime;
use super::shell::Shell;
use super::task::CommandRecord;
use super::turn::ProviderTurn;
use chaosrun_event::Blame;
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

#[derive(Debug, Error)]
#[error("{0}")]
pub struct ProviderError(pub String);
