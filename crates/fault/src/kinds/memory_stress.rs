//! `memory_stress`: an additional process occupies memory, within the memory limit of the node.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::description::on;
use crate::resources::{gone, installed, intact, put};
use crate::{
    DOCKER, FELT_WITHIN, FaultContext, FaultDescription, FaultFinding, Injection, LOCAL, RawTarget, Repair, Resolution, ResolvedFault,
    Resolver, Target, Way, each,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{LinkPath, Stress};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::{RawAmount, RawSize, Short, quantity};

/// Fixed data of the fault `memory_stress`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "memory_stress",
    summary: "Occupies memory of the node, within the memory limit of the node.",
    example: "memory_stress: { target: tikv1, size: 64MiB }",
    backends: &[on(LOCAL, &[]), on(DOCKER, &[Way::plain("program in the container of the node that holds memory")])],
    refused: "nodes have no memory limit",
    repair: Repair::Verb("restart"),
    class: "memory_exhaustion",
    holds: Some("memory"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "memory_stress")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Amount of memory that is occupied. Exactly one of `size` and `percent` is required.
    pub size: Option<RawSize>,
    /// Percentage of the node's memory limit.
    pub percent: Option<RawAmount>,
}

/// Checks the parameters of `memory_stress`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let target = to.target(&read.target)?;
    let amount = amount(to, read, &target)?;
    Some(Resolution::of(MemoryStress { target, amount }))
}

fn amount(to: &mut Resolver, read: &Parameters, target: &Target) -> Option<MemoryAmount> {
    match (&read.size, &read.percent) {
        (Some(_), None) => Some(MemoryAmount::Size(to.size("size", read.size.as_ref())?)),
        (None, Some(_)) => {
            let percent = to.amount("percent", read.percent.as_ref(), quantity::percent)?;
            let ground = to.ground;
            let names = ground.candidates(target).unwrap_or_default();
            let unlimited = ground.nodes.iter().find(|node| names.contains(&node.name) && !node.has_memory_limit);
            // If the backend has no mechanism, a problem has already been reported.
            if let Some(node) = unlimited.filter(|_| !DESCRIPTION.ways(ground.backend).is_empty()) {
                let problem = Diagnostic::error("no_limit", format!("`{}` has no memory limit", node.name));
                let help = "add `memory: 1GiB` to the role in the cluster file, or use `size`";
                to.wrong("percent", problem.label("expected a node with `memory`").help(help));
            }
            Some(MemoryAmount::Percent(percent))
        }
        _ => {
            let problem = Diagnostic::error("bad_amount", "`size` and `percent` are both set or both missing")
                .label("expected exactly one of `size`, `percent`");
            to.wrong_fault(problem);
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum MemoryAmount {
    /// Amount of memory in bytes.
    Size(u64),
    /// Share of the memory limit of the node, from 0 to 100 percent.
    Percent(f64),
}

#[derive(Debug, Clone, Serialize)]
struct MemoryStress {
    target: Target,
    amount: MemoryAmount,
}

impl ResolvedFault for MemoryStress {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Holding { amount: self.amount, before: OnceLock::new() })
    }
}

struct Holding {
    amount: MemoryAmount,
    /// Memory usage of the node before the injection, in bytes.
    before: OnceLock<u64>,
}

impl Holding {
    async fn bytes(&self, context: &FaultContext, node: &str) -> Result<u64, ClusterError> {
        match self.amount {
            MemoryAmount::Size(bytes) => Ok(bytes),
            MemoryAmount::Percent(percent) => {
                let limit = context.cluster.usage(node).await?.memory_limit;
                let no_limit = || ClusterError::Conflict { node: node.into(), problem: "has no memory limit".into() };
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "memory is smaller"
                )]
                let bytes = (limit.ok_or_else(no_limit)? as f64 * percent / 100.0) as u64;
                Ok(bytes)
            }
        }
    }

    async fn used(context: &FaultContext) -> Result<u64, ClusterError> {
        Ok(context.cluster.usage(context.first()).await?.memory)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[async_trait]
impl Injection for Holding {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let used = Self::used(context).await.map_err(|error| error.to_string())?;
        let _ = self.before.set(used);
        Ok(format!("{} used {:.1} MiB", context.first(), mib(used)))
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| {
            let memory = self.bytes(context, &node).await?;
            let stress = Stress { memory, ..Stress::default() };
            context.effects.stress(&*context.cluster, &node, &context.id, Some(stress)).await
        })
        .await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        let asked = self.bytes(context, context.first()).await.unwrap_or_default();
        // The process touches its memory page by page, so the check waits until most of it is in use. Memory of processes that the kernel
        // killed does not count.
        installed(context, |reading| reading.memory + (asked / 20) >= asked).await
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        let (before, asked) =
            (self.before.get().copied().unwrap_or_default(), self.bytes(context, context.first()).await.unwrap_or_default());
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let now = match Self::used(context).await {
                Ok(now) => now,
                Err(error) => return FaultFinding::no(error.to_string()),
            };
            let ok = now >= before + asked / 10 * 8;
            if ok || Instant::now() > deadline {
                let detail = format!("{} uses {:.1} MiB (asked {:.1} more)", context.first(), mib(now), mib(asked));
                return FaultFinding::new(ok, detail)
                    .with("used_mib", mib(now))
                    .with("used_before_mib", mib(before))
                    .with("asked_mib", mib(asked));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        put(context, None).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        gone(context).await
    }

    async fn intact(&self, context: &FaultContext) -> Option<FaultFinding> {
        intact(context).await
    }
}
