//! `disk_readonly`: the data directory of the node becomes read-only. Writes fail with EROFS, and reads still succeed.

use serde::Serialize;

use crate::description::on;
use crate::disk::{LAYER, Layered, SHARED};
pub use crate::target::TargetOnly as Parameters;
use crate::{DOCKER, FaultDescription, Injection, LOCAL, Preparation, Repair, Resolution, ResolvedFault, Resolver, Target};
use chaosrun_cluster::fault_control::{DiskFault, LinkPath};

/// Fixed data of the fault `disk_readonly`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "disk_readonly",
    summary: "Makes the data directory of the node read-only: writes fail with EROFS.",
    example: "disk_readonly: { target: tikv2 }",
    backends: &[on(LOCAL, LAYER), on(DOCKER, SHARED)],
    refused: "",
    repair: Repair::Nobody,
    class: "disk_error",
    holds: None,
    prepares: Some(Preparation::DiskLayer),
};

/// Checks the parameters of `disk_readonly`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    Some(Resolution::of(DiskReadonly { target: to.target(&read.target)? }))
}

#[derive(Debug, Clone, Serialize)]
struct DiskReadonly {
    target: Target,
}

impl ResolvedFault for DiskReadonly {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Layered::new(DiskFault { read_only: true, ..DiskFault::default() }))
    }
}
