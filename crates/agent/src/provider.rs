//! Providers, which decide the next turn of an agent: a script, a control or a model.

use async_trait::async_trait;
use thiserror::Error;

use super::cost::LostTime;
use super::shell::Shell;
use super::task::CommandRecord;
use super::turn::ProviderTurn;
use chaosrun_event::Blame;
use chaosrun_models::Spent;

/// Provider, which decides the turns of an agent one by one. The agent loop runs the turns, counts them and enforces the limits.
#[async_trait]
pub(crate) trait AgentProvider: Send {
    /// Prepares the provider before the first turn, for example by starting a program.
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
    /// The provider itself fails. The trial then counts as invalid, not as failed.
    async fn next(&mut self, commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError>;

    /// Informs the provider that the last turn is over. Runs before all processes of the agent are ended.
    async fn over(&mut self, _by_itself: bool) {}

    /// Returns the cost of the provider so far. The cost includes calls of [`AgentProvider::next`] whose future was dropped.
    fn spent(&self) -> Spent {
        Spent::default()
    }

    /// Returns the time lost so far because a model server failed or did not answer.
    fn kept_waiting(&self) -> Option<LostTime> {
        None
    }

    /// Releases the resources of the provider after the last turn.
    ///
    /// # Errors
    /// The provider cannot finish its output, such as a cassette. The trial continues, and the error describes the problem.
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
