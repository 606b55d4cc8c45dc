//! Turns: the actions that a provider wants the agent loop to perform next.

use chaosrun_action::ActionCall;
use chaosrun_event::{AgentEnd, Diagnosis};

/// Turn of a provider: any number of actions, which the agent loop performs in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ProviderTurn {
    pub actions: Vec<ProviderAction>,
    /// Number by which the turn increases the count of turns: 0 for a repeated command and for the end of the session, otherwise 1.
    pub counts: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ProviderAction {
    Run {
        command: String,
        reasoning: String,
    },
    /// Reports a command that the agent's own program has already run.
    Report(Reported),
    /// Performs an action that the cluster file declares.
    Act {
        call: ActionCall,
        reasoning: String,
    },
    /// Shows the agent the current observations of the monitor.
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

/// Command that the agent's own program ran outside the agent loop, as the program reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reported {
    pub command: String,
    pub reasoning: String,
    pub exit_code: i32,
    pub output: String,
}

/// Selection of observations for the tool `observe`. An empty selection returns a summary of all observations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ObserveRequest {
    /// Names of observations to return in full.
    pub observations: Vec<String>,
    /// Names of nodes whose last log lines are returned.
    pub logs: Vec<String>,
}

impl ObserveRequest {
    /// Returns the text that represents the request in the record: `observe stores logs tikv1`.
    #[must_use]
    pub fn text(&self) -> String {
        let logs = self.logs.iter().flat_map(|node| ["logs", node.as_str()]);
        ["observe"].into_iter().chain(self.observations.iter().map(String::as_str)).chain(logs).collect::<Vec<_>>().join(" ")
    }
}

impl ProviderAction {
    /// Returns true if the action is recorded as a command.
    #[must_use]
    pub const fn is_command(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Report(_) | Self::Act { .. } | Self::Observe { .. })
    }
}

impl ProviderTurn {
    /// Creates a turn with a single action. The turn counts against the limit of turns.
    #[must_use]
    pub fn of(action: ProviderAction) -> Self {
        Self { actions: vec![action], counts: 1 }
    }

    #[must_use]
    pub fn run(command: impl Into<String>, reasoning: impl Into<String>) -> Self {
        Self::of(ProviderAction::Run { command: command.into(), reasoning: reasoning.into() })
    }

    /// Creates a turn that ends the session. The turn does not count against the limit of turns.
    #[must_use]
    pub fn end(end: AgentEnd, detail: impl Into<String>) -> Self {
        Self { actions: vec![ProviderAction::End { end, detail: detail.into() }], counts: 0 }
    }
}
