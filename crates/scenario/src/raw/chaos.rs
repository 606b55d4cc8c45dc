//! Raw types of the section `chaos:` in a scenario, which declares the times of faults. The crate [`chaosrun_fault`] reads the maps below
//! `inject:`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawDuration, Short, Text};
use crate::model::TriggerEvent;
use chaosrun_fault::FaultParameters;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "chaos")]
pub struct RawChaos {
    /// Time of the injection, counted from the steady state [default: 0s].
    pub at: Option<RawDuration>,
    /// Event that triggers the injection, instead of `at`.
    pub on: Option<Short<RawTrigger>>,
    /// Number and interval of the injections [default: one injection].
    pub repeat: Option<RawRepeat>,
    /// The fault to inject and its parameters.
    pub inject: FaultParameters,
    /// End of the fault: `agent` (the agent may repair it), `never`, or a duration after which it is healed [default: `agent`].
    pub heal: Option<Text>,
    /// Marks the fault as a distraction: a diagnosis should not name it.
    #[serde(default)]
    pub noise: bool,
}

/// Event that triggers an injection: `ticket`, `command`, `healed`, or a map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "trigger")]
pub struct RawTrigger {
    pub event: TriggerEvent,
    /// Number of the event that triggers the injection, counted from 1 [default: 1].
    pub nth: Option<u32>,
    /// Time from the event to the injection [default: 0s].
    pub plus: Option<RawDuration>,
    /// Latest time of the injection, counted from the steady state [default: 30s]. Without the event, the fault is injected at this time.
    pub latest: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "repeat")]
pub struct RawRepeat {
    /// Total number of injections.
    pub times: u32,
    /// Time from one injection to the next.
    pub every: RawDuration,
}
