//! `node_restart`: the node is restarted several times, with pauses that may grow.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::description::on;
use crate::process::{answers, answers_again};
use crate::{
    DOCKER, FELT_WITHIN, FaultContext, FaultDescription, FaultFinding, Injection, LOCAL, PROBE, RawTarget, Repair, Resolution,
    ResolvedFault, Resolver, Target, Way, each,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_event::{Actor, NodeState};
use chaosrun_input::quantity::serialize_duration;
use chaosrun_input::{RawDuration, Short};

/// Fixed data of the fault `node_restart`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "node_restart",
    summary: "Restarts the node one or more times.",
    example: "node_restart: { target: all, times: 3, every: 4s, backoff: 1.5, grace: 500ms }",
    backends: &[on(LOCAL, &[Way::plain("SIGTERM, then SIGKILL, then a start")]), on(DOCKER, &[Way::plain("restart by the engine")])],
    refused: "",
    repair: Repair::Itself,
    class: "process_restart",
    holds: Some("process"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "node_restart")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Number of restarts [default: 1].
    pub times: Option<u32>,
    /// Pause before the second restart [default: 5s].
    pub every: Option<RawDuration>,
    /// Factor from one pause to the next [default: 1].
    pub backoff: Option<f64>,
    /// Time between SIGTERM and SIGKILL [default: 10s].
    pub grace: Option<RawDuration>,
}

/// Checks the parameters of `node_restart`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let grace = to.duration("grace", read.grace.as_ref(), Duration::from_secs(10));
    let every = to.duration("every", read.every.as_ref(), Duration::from_secs(5));
    let backoff = to.within("backoff", read.backoff, 1.0..=10.0, 1.0);
    let times = to.whole("times", read.times, 1..=1000, 1);
    Some(Resolution::of(NodeRestart { target: to.target(&read.target)?, times, every, backoff, grace }))
}

#[derive(Debug, Clone, Serialize)]
struct NodeRestart {
    target: Target,
    times: u32,
    /// Pause between the first and the second restart.
    #[serde(serialize_with = "serialize_duration")]
    every: Duration,
    /// Ratio of the length of each pause to the length of the previous pause.
    backoff: f64,
    #[serde(serialize_with = "serialize_duration")]
    grace: Duration,
}

impl ResolvedFault for NodeRestart {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Restarts { fault: self.clone(), before: OnceLock::new(), left: watch::channel(self.times).0 })
    }
}

struct Restarts {
    fault: NodeRestart,
    /// Total number of starts of the targets before the injection.
    before: OnceLock<u32>,
    /// Number of restarts that have not been executed yet.
    left: watch::Sender<u32>,
}

async fn round(context: &FaultContext, grace: Duration) -> Result<(), ClusterError> {
    each(&context.targets, async |node| context.cluster.restart(&node, grace, Actor::Fault).await).await
}

#[async_trait]
impl Injection for Restarts {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let _ = self.before.set(context.starts());
        Ok(answers(context).await)
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        round(context, self.fault.grace).await?;
        self.left.send_modify(|left| *left -= 1);
        let (context, left, grace, backoff, mut pause) =
            (context.clone(), self.left.clone(), self.fault.grace, self.fault.backoff, self.fault.every);
        let cancel = context.cancel.clone();
        let rounds = async move {
            let mut healed = left.subscribe();
            loop {
                tokio::select! {
                    biased;
                    _ = healed.wait_for(|left| *left == 0) => return,
                    () = tokio::time::sleep(pause) => (),
                }
                pause = pause.mul_f64(backoff).min(Duration::from_secs(3600));
                // If another actor has stopped or paused the node in the meantime, the fault does not start it.
                if let Err(error) = round(&context, grace).await {
                    context.emitter.warn(format!("{} could not be restarted again: {error}", context.targets.join(", ")));
                }
                left.send_modify(|left| *left = left.saturating_sub(1));
            }
        };
        chaosrun_base::task::spawn(cancel.run_until_cancelled_owned(rounds));
        Ok(())
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        let began = self.before.get().copied().unwrap_or_default();
        let starts = context.starts().saturating_sub(began);
        let wanted = u32::try_from(context.targets.len()).unwrap_or(u32::MAX);
        FaultFinding::new(starts >= wanted, format!("{starts} starts since")).with("starts", f64::from(starts))
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        // The node was silent during the restart. The new process may already answer.
        let deadline = tokio::time::Instant::now() + FELT_WITHIN;
        let found = self.installed(context).await;
        while tokio::time::Instant::now() < deadline {
            let mut silent = false;
            for node in &context.targets {
                silent |= context.cluster.answers(node, PROBE).await.is_err();
            }
            if !silent {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let back = context.began.elapsed();
        let detail = format!(
            "{}, {} of {} rounds done, answering {:.1} s after",
            found.detail,
            self.fault.times - *self.left.borrow(),
            self.fault.times,
            back.as_secs_f64()
        );
        FaultFinding { detail, ..found }.time("answered_after_ms", back)
    }

    async fn heal(&self, _context: &FaultContext) -> Result<(), ClusterError> {
        self.left.send_replace(0);
        Ok(())
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        self.left.subscribe().wait_for(|left| *left == 0).await.ok()?;
        answers_again(context, |status| status.state == NodeState::Running).await
    }
}
