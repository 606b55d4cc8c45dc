//! `clock_skew`: the wall clock of the processes of the node is ahead or behind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Clocked, PRELOADED};
use crate::description::on;
use crate::{DOCKER, FaultDescription, Injection, LOCAL, Preparation, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target};
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::{Short, Text, quantity};

/// Fixed data of the fault `clock_skew`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "clock_skew",
    summary: "Shifts the wall clock of the node's processes.",
    example: "clock_skew: { target: tikv1, offset: -30s }",
    backends: &[on(LOCAL, PRELOADED), on(DOCKER, PRELOADED)],
    refused: "",
    repair: Repair::Nobody,
    class: "clock_skew",
    holds: Some("wall clock"),
    prepares: Some(Preparation::Clock),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "clock_skew")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Offset of the clock: `5m` is 5 minutes ahead, `-30s` is 30 seconds behind.
    pub offset: Text,
}

/// Checks the parameters of `clock_skew`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let offset_us = quantity::offset(&read.offset.0);
    if let Err(help) = &offset_us {
        let problem = Diagnostic::error("bad_duration", format!("`{}` is not an offset", read.offset.0));
        to.wrong("offset", problem.label("expected a duration such as `5m`, or `-30s`").help(help.clone()));
    }
    Some(Resolution::of(ClockSkew { target: to.target(&read.target)?, offset_us: offset_us.ok()? }))
}

#[derive(Debug, Clone, Serialize)]
struct ClockSkew {
    target: Target,
    offset_us: i64,
}

impl ResolvedFault for ClockSkew {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Clocked::new(self.offset_us, 1.0))
    }
}
