//! Times of faults: their injections and their ends.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Heal, duration};
use chaosrun_diagnostic::SourcePlace;
use chaosrun_expr::Template;

/// Entry of the timeline.
#[derive(Debug, Clone, Serialize)]
pub struct Chaos {
    pub id: String,
    pub when: When,
    pub repeat: Repeat,
    pub fault: Fault,
    pub heal: Heal,
    /// True for a confounder, which is not part of the truth.
    pub noise: bool,
    /// Command that the oracle runs, once per target. `None` stands for the repair that the fault itself defines.
    pub repair: Option<Template>,
    #[serde(skip)]
    pub place: SourcePlace,
}

/// Time of the injection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Time after steady state.
    At(#[serde(serialize_with = "duration")] Duration),
    On(Trigger),
}

impl When {
    /// Returns the latest time of the injection, after steady state.
    #[must_use]
    pub const fn latest(&self) -> Duration {
        match self {
            Self::At(at) => *at,
            Self::On(trigger) => trigger.latest,
        }
    }
}

/// Event that triggers the injection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trigger {
    pub event: TriggerEvent,
    /// Number of the event that triggers the injection, from 1.
    pub nth: u32,
    #[serde(serialize_with = "duration")]
    pub plus: Duration,
    /// Latest time after steady state. At this time the fault is injected even without the event.
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

/// Number and interval of injections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Repeat {
    /// Number of injections, at least 1.
    pub times: u32,
    /// Time from one injection to the next.
    #[serde(serialize_with = "duration")]
    pub every: Duration,
}
