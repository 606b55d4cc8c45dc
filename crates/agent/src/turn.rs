//! Turn of a provider: its actions, which the loop performs in order.

use chaosrun_action::ActionCall;
use chaosrun_event::{AgentEnd, Diagnosis};

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

/// Selection of observations. An empty selection returns a summary of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObserveRequest {
    /// Names of observations to return in full.
    pub observations: Vec<String>,
    /// Nodes whose last log lines are returned.
    pub logs: Vec<String>,
}

impl ObserveRequest {
    /// Returns the text of the command: `observe stores logs tikv1`.
    #[must_use]
    pub fn text(&self) -> String {
        let logs = self.logs.iter().flat_map(|node| ["logs", node.as_str()]);
        ["observe"].into_iter().chain(self.observations.iter().map(String::as_str)).chain(logs).collect::<Vec<_>>().join(" ")
    }
}

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
