//! `clock_rate`: the clocks of the processes of the node run fast or slow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Clocked, PRELOADED};
use crate::description::on;
use crate::{DOCKER, FaultDescription, Injection, LOCAL, Preparation, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target};
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_input::Short;

/// Fixed data of the fault `clock_rate`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "clock_rate",
    summary: "Changes the speed of the clocks of the node's processes.",
    example: "clock_rate: { target: tikv1, rate: 0.5 }",
    backends: &[on(LOCAL, PRELOADED), on(DOCKER, PRELOADED)],
    refused: "",
    repair: Repair::Nobody,
    class: "clock_skew",
    holds: Some("speed of the clock"),
    prepares: Some(Preparation::Clock),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "clock_rate")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Speed of the clocks: 1 is real time, 2 is twice as fast.
    pub rate: f64,
}

/// Checks the parameters of `clock_rate`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let rate = to.within("rate", Some(read.rate), 0.01..=100.0, 1.0);
    Some(Resolution::of(ClockRate { target: to.target(&read.target)?, rate }))
}

#[derive(Debug, Clone, Serialize)]
struct ClockRate {
    target: Target,
    rate: f64,
}

impl ResolvedFault for ClockRate {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Clocked::new(0, self.rate))
    }
}
