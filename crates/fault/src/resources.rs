//! Faults of the CPUs and the memory of a node, produced by an additional load.

use std::time::Duration;

use super::resolver::Heal;
use super::{FaultContext, FaultFinding, each};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{Stress, StressReading};

/// Interval between two checks of the load.
const LOOKED: Duration = Duration::from_millis(200);

pub(super) async fn put(context: &FaultContext, stress: Option<Stress>) -> Result<(), ClusterError> {
    each(&context.targets, async |node| context.effects.stress(&*context.cluster, &node, &context.id, stress).await).await
}

/// Checks the load of all targets. Returns the finding of the first target without the load, or a finding about all targets.
pub(super) async fn installed(context: &FaultContext, there: impl Fn(&StressReading) -> bool) -> FaultFinding {
    let mut told = Vec::new();
    for node in &context.targets {
        match context.cluster.stress(node).await {
            Ok(reading) if reading.running && there(&reading) => told.push(node.clone()),
            Ok(reading) => return FaultFinding::no(format!("{node}: {reading:?}")),
            Err(error) => return FaultFinding::no(error.to_string()),
        }
    }
    FaultFinding::yes(format!("the load runs in {}", told.join(", ")))
}

/// Waits until the load has ended on all targets. With `heal: agent`, a restart of a target also ends the load.
pub(super) async fn gone(context: &FaultContext) -> Option<FaultFinding> {
    let restarted = context.starts();
    let by_agent = context.heal == Heal::Agent;
    loop {
        tokio::time::sleep(LOOKED).await;
        let mut running = false;
        for node in &context.targets {
            running |= context.cluster.stress(node).await.ok()?.running;
        }
        let ended = !running || context.starts() > restarted;
        let lifted = context.targets.iter().all(|node| !context.effects.is_on(node, &context.id));
        if lifted || (by_agent && ended) {
            if !lifted {
                // This call removes the load, so that the load does not start again with the node.
                put(context, None).await.ok()?;
            }
            return Some(FaultFinding::yes(format!("the load on {} has ended", context.targets.join(", "))));
        }
    }
}

/// Checks that the load, which an agent must not end, is still active on every running target.
pub(super) async fn intact(context: &FaultContext) -> Option<FaultFinding> {
    for node in &context.targets {
        if !context.effects.is_on(node, &context.id) {
            return None;
        }
        let up = |context: &FaultContext| {
            context.statuses().iter().any(|status| status.node == *node && status.state == chaosrun_event::NodeState::Running)
        };
        let reading = context.cluster.stress(node).await.ok()?;
        let starts = context.starts();
        if reading.running || !up(context) {
            continue;
        }
        // After a restart of the node, the load starts again with a short delay.
        tokio::time::sleep(LOOKED * 10).await;
        let again = context.cluster.stress(node).await.ok()?;
        if !again.running && up(context) && context.starts() == starts && context.effects.is_on(node, &context.id) {
            return Some(FaultFinding::no(format!("the load in {node} was ended by another party")));
        }
    }
    Some(FaultFinding::yes(""))
}
