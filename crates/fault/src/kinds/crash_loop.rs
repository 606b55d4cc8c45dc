//! `crash_loop`: the node is killed, and killed again after each start, until the fault is healed.

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::description::on;
use crate::process::{answers, answers_again, ended, installed, silence};
use crate::{
    DOCKER, FaultContext, FaultDescription, FaultFinding, Injection, LOCAL, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target,
    Way, each,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_event::{Actor, NodeState};
use chaosrun_input::quantity::serialize_duration;
use chaosrun_input::{RawDuration, Short};

/// Fixed data of the fault `crash_loop`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "crash_loop",
    summary: "Kills the node some time after each start, until the fault is healed.",
    example: "crash_loop: { target: leader, after: 1s }",
    backends: &[
        on(LOCAL, &[Way::plain("SIGKILL to the process group, after each start")]),
        on(DOCKER, &[Way::plain("kill by the engine, after each start")]),
    ],
    refused: "",
    repair: Repair::Nobody,
    class: "crash_loop",
    holds: Some("process"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "crash_loop")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Time from a start of the node to the kill [default: 1s].
    pub after: Option<RawDuration>,
}

/// Checks the parameters of `crash_loop`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let after = to.duration("after", read.after.as_ref(), Duration::from_secs(1));
    Some(Resolution::of(CrashLoop { target: to.target(&read.target)?, after }))
}

#[derive(Debug, Clone, Serialize)]
struct CrashLoop {
    target: Target,
    #[serde(serialize_with = "serialize_duration")]
    after: Duration,
}

impl ResolvedFault for CrashLoop {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Crashes { fault: self.clone(), over: CancellationToken::new() })
    }
}

struct Crashes {
    fault: CrashLoop,
    over: CancellationToken,
}

/// Kills the node a fixed time after each of its starts.
async fn go_on(context: FaultContext, node: String, after: Duration) {
    let mut changes = context.cluster.changes();
    loop {
        let running = context.cluster.status().into_iter().any(|status| status.node == node && status.state == NodeState::Running);
        if running {
            tokio::time::sleep(after).await;
            // The node may have ended by itself in the meantime, so an error is ignored.
            let _ = context.cluster.kill(&node, libc::SIGKILL, Actor::Fault).await;
            continue;
        }
        if matches!(changes.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
            return;
        }
    }
}

#[async_trait]
impl Injection for Crashes {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        Ok(answers(context).await)
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| context.cluster.kill(&node, libc::SIGKILL, Actor::Fault).await).await?;
        for node in &context.targets {
            let (over, ended) = (self.over.clone(), context.cancel.clone());
            let task = go_on(context.clone(), node.clone(), self.fault.after);
            chaosrun_base::task::spawn(async move {
                tokio::select! {
                    () = over.cancelled() => (),
                    () = ended.cancelled() => (),
                    () = task => (),
                }
            });
        }
        Ok(())
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        installed(context, ended)
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        silence(context).await
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        self.over.cancel();
        each(&context.targets, async |node| context.cluster.start(&node, Actor::Time).await).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        self.over.cancelled().await;
        answers_again(context, |status| status.state == NodeState::Running).await
    }
}
