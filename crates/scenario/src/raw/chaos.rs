//! `chaos:` of a scenario: the times of faults. The map below `inject:` is read by [`chaosrun_fault`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawDuration, Short, Text};
use crate::model::TriggerEvent;
use chaosrun_fault::FaultParameters;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "chaos")]
pub struct RawChaos {
    /// After steady state: at once unless given.
    pub at: Option<RawDuration>,
    /// In place of `at`: when something happens.
    pub on: Option<Short<RawTrigger>>,
    /// Injected more than once.
    pub repeat: Option<RawRepeat>,
    /// The fault.
    pub inject: FaultParameters,
    /// `agent` (may be repaired, the default), `never`, or a duration after which it passes by itself.
    pub heal: Option<Text>,
    /// A confounder: not part of the truth.
    #[serde(default)]
    pub noise: bool,
}

/// `ticket`, `command`, `healed`, or the whole map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "trigger")]
pub struct RawTrigger {
    pub event: TriggerEvent,
    /// The how many-th one: the first unless given.
    pub nth: Option<u32>,
    /// Delay after the event [default: 0s].
    pub plus: Option<RawDuration>,
    /// Injected so long after steady state at the latest, whatever happens: 30s unless given.
    pub latest: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "repeat")]
pub struct RawRepeat {
    /// Total number of injections.
    pub times: u32,
    /// From one injection to the next.
    pub every: RawDuration,
}
