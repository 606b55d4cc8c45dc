//! `disk_error`: a share of the file operations on the data of the node fails.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::description::on;
use crate::disk::{LAYER, Layered, SHARED};
use crate::{DOCKER, FaultDescription, Injection, LOCAL, Preparation, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target};
use chaosrun_cluster::fault_control::{DiskErrno, DiskFault, DiskOperation, LinkPath};
use chaosrun_input::{OneOrMany, RawAmount, Short, quantity};

/// Fixed data of the fault `disk_error`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "disk_error",
    summary: "Makes a share of the operations on the node's data fail.",
    example: "disk_error: { target: tikv1, percent: 12.5, errno: ENOSPC, operations: [write, sync] }",
    backends: &[on(LOCAL, LAYER), on(DOCKER, SHARED)],
    refused: "",
    repair: Repair::Nobody,
    class: "disk_error",
    holds: None,
    prepares: Some(Preparation::DiskLayer),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "disk_error")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Percentage of the operations that fail [default: 100].
    pub percent: Option<RawAmount>,
    /// Error that the operations return [default: `EIO`].
    pub errno: Option<DiskErrno>,
    /// Affected operations: `read`, `write`, `sync` or `open` [default: `read`, `write` and `sync`].
    #[serde(default)]
    pub operations: OneOrMany<DiskOperation>,
}

/// Checks the parameters of `disk_error`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let share = to.amount("percent", read.percent.as_ref(), quantity::percent).unwrap_or(100.0) / 100.0;
    let operations = match read.operations.0.as_slice() {
        [] => vec![DiskOperation::Read, DiskOperation::Write, DiskOperation::Sync],
        named => named.to_vec(),
    };
    let errno = read.errno.unwrap_or_default();
    Some(Resolution::of(DiskError { target: to.target(&read.target)?, share, errno, operations }))
}

#[derive(Debug, Clone, Serialize)]
struct DiskError {
    target: Target,
    /// Share of the operations that fail, from 0 to 1.
    share: f64,
    errno: DiskErrno,
    operations: Vec<DiskOperation>,
}

impl ResolvedFault for DiskError {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Layered::new(DiskFault {
            error: self.share,
            errno: self.errno,
            operations: self.operations.clone(),
            ..DiskFault::default()
        }))
    }
}
