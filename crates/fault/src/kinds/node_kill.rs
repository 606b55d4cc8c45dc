//! `node_kill`: sends a signal to the whole process group of the node. A later start of the node undoes the fault.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::description::on;
use crate::process::OnProcess;
use crate::{DOCKER, FaultDescription, LOCAL, RawTarget, Repair, Resolution, Resolver, Target, Way};
use chaosrun_cluster::{Cluster, ClusterError};
use chaosrun_event::Actor;
use chaosrun_input::{Short, unknown};

/// Fixed data of the fault `node_kill`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "node_kill",
    summary: "Sends a signal to the processes of the node, by default SIGKILL.",
    example: "node_kill: { target: { role: tikv, pick: 1 }, signal: SIGTERM }",
    backends: &[on(LOCAL, &[Way::plain("signal to the process group")]), on(DOCKER, &[Way::plain("kill by the engine")])],
    refused: "",
    repair: Repair::Verb("start"),
    class: "process_crash",
    holds: Some("process"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "node_kill")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Signal: `SIGKILL`, `SIGTERM`, `SIGINT`, `SIGQUIT`, `SIGABRT`, `SIGSEGV` or `SIGHUP` [default: `SIGKILL`].
    pub signal: Option<String>,
}

/// Signal that ends a process by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Signal {
    Sigkill,
    Sigint,
    Sigquit,
    Sigabrt,
    Sigsegv,
    Sigterm,
    Sighup,
}

const SIGNALS: [(&str, Signal); 7] = [
    ("SIGKILL", Signal::Sigkill),
    ("SIGTERM", Signal::Sigterm),
    ("SIGINT", Signal::Sigint),
    ("SIGQUIT", Signal::Sigquit),
    ("SIGABRT", Signal::Sigabrt),
    ("SIGSEGV", Signal::Sigsegv),
    ("SIGHUP", Signal::Sighup),
];

impl Signal {
    /// Returns the number of the signal on Linux; see signal(7).
    const fn number(self) -> i32 {
        match self {
            Self::Sighup => libc::SIGHUP,
            Self::Sigint => libc::SIGINT,
            Self::Sigquit => libc::SIGQUIT,
            Self::Sigabrt => libc::SIGABRT,
            Self::Sigkill => libc::SIGKILL,
            Self::Sigsegv => libc::SIGSEGV,
            Self::Sigterm => libc::SIGTERM,
        }
    }
}

/// Checks the parameters of `node_kill`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let signal = signal(to, read.signal.as_deref());
    Some(Resolution::of(NodeKill { target: to.target(&read.target)?, signal }))
}

fn signal(to: &mut Resolver, read: Option<&str>) -> Signal {
    let Some(name) = read else { return Signal::Sigkill };
    let whole = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    if let Some((_, signal)) = SIGNALS.iter().find(|(known, _)| *known == whole) {
        return *signal;
    }
    to.wrong("signal", unknown("bad_signal", "signal", name, SIGNALS.iter().map(|(name, _)| *name)));
    Signal::Sigkill
}

#[derive(Debug, Clone, Serialize)]
struct NodeKill {
    target: Target,
    signal: Signal,
}

#[async_trait]
impl OnProcess for NodeKill {
    fn target(&self) -> &Target {
        &self.target
    }

    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        cluster.kill(node, self.signal.number(), Actor::Fault).await
    }
}
