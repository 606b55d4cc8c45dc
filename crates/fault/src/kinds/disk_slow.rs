//! `disk_slow`: reads, writes and syncs of the data of the node take longer.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::description::on;
use crate::disk::{LAYER, Layered, SHARED};
use crate::{DOCKER, FaultDescription, Injection, LOCAL, Preparation, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target};
use chaosrun_cluster::fault_control::{DiskFault, LinkPath};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::quantity::serialize_duration;
use chaosrun_input::{RawDuration, Short};

/// Fixed data of the fault `disk_slow`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "disk_slow",
    summary: "Delays reads, writes and syncs of the node's data.",
    example: "disk_slow: { target: tikv1, read: 1ms, write: 20ms, sync: 1s 500ms }",
    backends: &[on(LOCAL, LAYER), on(DOCKER, SHARED)],
    refused: "",
    repair: Repair::Nobody,
    class: "disk_slow",
    holds: None,
    prepares: Some(Preparation::DiskLayer),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "disk_slow")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Delay of each read [default: 0s].
    pub read: Option<RawDuration>,
    /// Delay of each write [default: 0s].
    pub write: Option<RawDuration>,
    /// Delay of each sync [default: 0s].
    pub sync: Option<RawDuration>,
}

/// Checks the parameters of `disk_slow`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(said: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let target = to.target(&said.target);
    let mut time = |name: &str, read| to.duration(name, read, Duration::ZERO);
    let (read, write, sync) = (time("read", said.read.as_ref()), time("write", said.write.as_ref()), time("sync", said.sync.as_ref()));
    if read.is_zero() && write.is_zero() && sync.is_zero() {
        let problem = Diagnostic::error("no_effect", "no operation is delayed").label("expected `read`, `write` or `sync` in this map");
        to.wrong_fault(problem.help("for example `sync: 50ms` delays each sync by 50 ms"));
    }
    Some(Resolution::of(DiskSlow { target: target?, read, write, sync }))
}

/// Resolved parameters: the delays that are added to reads, writes and syncs.
#[derive(Debug, Clone, Serialize)]
struct DiskSlow {
    target: Target,
    #[serde(serialize_with = "serialize_duration")]
    read: Duration,
    #[serde(serialize_with = "serialize_duration")]
    write: Duration,
    #[serde(serialize_with = "serialize_duration")]
    sync: Duration,
}

impl ResolvedFault for DiskSlow {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Layered::new(DiskFault { read_delay: self.read, write_delay: self.write, sync_delay: self.sync, ..DiskFault::default() }))
    }
}
