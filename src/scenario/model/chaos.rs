//! When faults come and go, and whom they hit.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, duration};
use crate::diagnostic::Place;
use crate::expr::Template;

/// One entry of the timeline.
#[derive(Debug, Clone, Serialize)]
pub struct Chaos {
    pub id: String,
    pub when: When,
    pub repeat: Repeat,
    pub fault: Fault,
    pub heal: Heal,
    /// A confounder: not part of the truth.
    pub noise: bool,
    /// What the oracle runs, once a target, in place of the fault's own repair. None = that one.
    pub repair: Option<Template>,
    #[serde(skip)]
    pub place: Place,
}

/// When a fault is injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// After steady state.
    At(#[serde(serialize_with = "duration")] Duration),
    On(Trigger),
}

impl When {
    /// After steady state, at the latest.
    #[must_use]
    pub const fn latest(&self) -> Duration {
        match self {
            Self::At(at) => *at,
            Self::On(trigger) => trigger.latest,
        }
    }
}

/// Something that happens in the trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trigger {
    pub event: TriggerEvent,
    /// From 1.
    pub nth: u32,
    #[serde(serialize_with = "duration")]
    pub plus: Duration,
    /// After steady state: injected then, whatever happened.
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
    /// A fault is gone, whoever removed it.
    Healed,
}

/// How often a fault is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Repeat {
    /// 1 = once.
    pub times: u32,
    /// From one injection to the next.
    #[serde(serialize_with = "duration")]
    pub every: Duration,
}

/// Which nodes. Resolved when the fault is injected; the choice comes from the seed.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    pub of: TargetOf,
    pub pick: Pick,
    /// Node names that are never taken.
    pub except: Vec<String>,
    #[serde(skip)]
    pub place: Option<Place>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetOf {
    Nodes(Vec<String>),
    Role(String),
    All,
    /// A `select` of the cluster file: an expression that gives a node or a list of nodes.
    Select(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    Count(usize),
    /// 0 to 100, rounded up to whole nodes.
    Percent(f64),
    /// More than half.
    Majority,
    /// As many as can be without half of them: 1 of 3, 2 of 5.
    Minority,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heal {
    /// The agent may repair it.
    Agent,
    /// Only the environment could, and it does not.
    Never,
    /// Passes by itself.
    After(#[serde(serialize_with = "duration")] Duration),
}
