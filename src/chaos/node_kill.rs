//! `node_kill`: a signal to the whole process group. A later start of the node undoes it.

use async_trait::async_trait;

use super::catalogue::{Kind, Way};
use super::fault::Inject;
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::event::{Actor, NodeState};
use crate::scenario::model::Signal;

pub(super) const KIND: Kind = Kind {
    name: "node_kill",
    local: &[Way { how: "signal to the process group", needs: &[] }],
    docker: &[Way { how: "kill by the engine", needs: &[] }],
};

#[derive(Debug)]
pub(super) struct NodeKill {
    pub(super) signal: Signal,
}

/// The number of signal(7) on Linux.
const fn number(signal: Signal) -> i32 {
    match signal {
        Signal::Sighup => libc::SIGHUP,
        Signal::Sigint => libc::SIGINT,
        Signal::Sigquit => libc::SIGQUIT,
        Signal::Sigabrt => libc::SIGABRT,
        Signal::Sigkill => libc::SIGKILL,
        Signal::Sigsegv => libc::SIGSEGV,
        Signal::Sigterm => libc::SIGTERM,
    }
}

#[async_trait]
impl Inject for NodeKill {
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.kill(node, number(self.signal), Actor::Fault).await
    }

    fn installed(&self, status: &NodeStatus) -> Result<String, String> {
        ended(status)
    }

    async fn heal(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.start(node, Actor::Time).await
    }

    fn gone(&self, status: &NodeStatus) -> bool {
        status.state == NodeState::Running
    }
}

/// The process is gone: how it ended.
pub(super) fn ended(status: &NodeStatus) -> Result<String, String> {
    match &status.state {
        NodeState::Exited { signal: Some(signal), .. } => Ok(format!("process ended by signal {signal}")),
        NodeState::Exited { code, .. } => Ok(format!("process ended with code {}", code.unwrap_or_default())),
        NodeState::Running => Err("process still runs".into()),
        NodeState::Paused => Err("process is stopped, not gone".into()),
        NodeState::Created => Err("process was never started".into()),
    }
}
