//! `node_stop`: sends SIGTERM to the node, and SIGKILL after a grace period. A later start of the node undoes the fault.

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::description::on;
use crate::process::OnProcess;
use crate::{DOCKER, FaultDescription, LOCAL, RawTarget, Repair, Resolution, Resolver, Target, Way};
use chaosrun_cluster::{Cluster, ClusterError};
use chaosrun_event::Actor;
use chaosrun_input::quantity::serialize_duration;
use chaosrun_input::{RawDuration, Short};

/// Fixed data of the fault `node_stop`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "node_stop",
    summary: "Stops the node with SIGTERM, and after `grace` with SIGKILL.",
    example: "node_stop: { target: tikv1, grace: 30s }",
    backends: &[on(LOCAL, &[Way::plain("SIGTERM, then SIGKILL")]), on(DOCKER, &[Way::plain("stop by the engine")])],
    refused: "",
    repair: Repair::Verb("start"),
    class: "process_stop",
    holds: Some("process"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "node_stop")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Time between SIGTERM and SIGKILL [default: 10s].
    pub grace: Option<RawDuration>,
}

/// Checks the parameters of `node_stop`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let grace = to.duration("grace", read.grace.as_ref(), Duration::from_secs(10));
    Some(Resolution::of(NodeStop { target: to.target(&read.target)?, grace }))
}

#[derive(Debug, Clone, Serialize)]
struct NodeStop {
    target: Target,
    #[serde(serialize_with = "serialize_duration")]
    grace: Duration,
}

#[async_trait]
impl OnProcess for NodeStop {
    fn target(&self) -> &Target {
        &self.target
    }

    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.stop(node, self.grace, Actor::Fault).await
    }
}
