//! `node_stop`: SIGTERM, and SIGKILL after a grace. A later start of the node undoes it.

use std::time::Duration;

use async_trait::async_trait;

use super::OnProcess;
use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::cluster::{Cluster, ClusterError};
use crate::event::Actor;

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "node_stop",
    local: &[Way::plain("SIGTERM, then SIGKILL")],
    docker: &[Way::plain("stop by the engine")],
    refused: "",
    repair: Repair::Verb("start"),
    class: "process_stop",
    holds: Some("process"),
};

#[derive(Debug)]
pub(in crate::chaos) struct NodeStop {
    pub(in crate::chaos) grace: Duration,
}

#[async_trait]
impl OnProcess for NodeStop {
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.stop(node, self.grace, Actor::Fault).await
    }
}
