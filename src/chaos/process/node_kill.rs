//! `node_kill`: a signal to the whole process group. A later start of the node undoes it.

use async_trait::async_trait;

use super::OnProcess;
use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::cluster::{Cluster, ClusterError};
use crate::event::Actor;
use crate::scenario::model::Signal;

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "node_kill",
    local: &[Way::plain("signal to the process group")],
    docker: &[Way::plain("kill by the engine")],
    refused: "",
    repair: Repair::Verb("start"),
    class: "process_crash",
    holds: Some("process"),
};

#[derive(Debug)]
pub(in crate::chaos) struct NodeKill {
    pub(in crate::chaos) signal: Signal,
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
impl OnProcess for NodeKill {
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.kill(node, number(self.signal), Actor::Fault).await
    }
}
