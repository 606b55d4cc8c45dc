//! Timeline of faults: the times at which faults are injected, and the times at which they end.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Heal, duration};
use chaosrun_diagnostic::SourcePlace;
use chaosrun_expr::Template;

/// Fault of a scenario, with the times of its injections and the condition of its end.
#[derive(Debug, Clone, Serialize)]
pub struct Chaos {
    pub id: String,
    pub when: When,
    pub repeat: Repeat,
    pub fault: Fault,
    pub heal: Heal,
    /// True if the fault only distracts the agent, so that a correct diagnosis does not name it.
    pub noise: bool,
    /// Repair command that the control agent `oracle` runs once per target. `None` means the repair that the fault itself defines.
    pub repair: Option<Template>,
    #[serde(skip)]
    pub place: SourcePlace,
}

/// Time or event at which a fault is injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Injection at a fixed time after the steady state was reached.
    At(#[serde(serialize_with = "duration")] Duration),
    On(Trigger),
}

impl When {
    /// Returns the latest possible time of the injection, counted from the steady state.
    #[must_use]
    pub const fn latest(&self) -> Duration {
        match self {
            Self::At(at) => *at,
            Self::On(trigger) => trigger.latest,
        }
    }
}

/// Event that triggers the injection of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trigger {
    pub event: TriggerEvent,
    /// Number of the occurrence of the event that triggers the injection. The first occurrence has number 1.
    pub nth: u32,
    #[serde(serialize_with = "duration")]
    pub plus: Duration,
    /// Latest time of the injection, counted from the steady state. At this time, the fault is injected even if the event has not occurred.
    #[serde(serialize_with = "duration")]
    pub latest: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerEvent {
    /// A ticket is opened.
    Ticket,
    /// The agent runs a command.
    Command,
    /// A fault has ended, regardless of who removed it.
    Healed,
}

/// Number of injections of a fault, and the interval between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Repeat {
    /// Number of injections, at least 1.
    pub times: u32,
    /// Time from one injection to the next.
    #[serde(serialize_with = "duration")]
    pub every: Duration,
}
