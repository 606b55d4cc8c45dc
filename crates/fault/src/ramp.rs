//! Values that change in steps while a fault lasts.

use std::time::Duration;

use serde::Serialize;

use chaosrun_input::quantity::serialize_duration;

/// Change of a value in steps, within the time `over`. The first value applies immediately. The last value persists.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ramp {
    pub from: f64,
    pub to: f64,
    pub steps: u32,
    #[serde(serialize_with = "serialize_duration")]
    pub over: Duration,
}

impl Ramp {
    /// Returns the value of the step number `step` (from 0), and the delay of this step after the first one.
    #[must_use]
    pub fn step(&self, step: u32) -> (f64, Duration) {
        let last = self.steps.saturating_sub(1).max(1);
        let part = f64::from(step.min(last)) / f64::from(last);
        (self.from + (self.to - self.from) * part, self.over.mul_f64(part))
    }
}
