//! What else uses what a node has.

pub mod cpu_stress;
pub mod memory_stress;

use std::time::Duration;

use super::driver::each;
use super::fault::{Finding, Site};
use crate::cluster::ClusterError;
use crate::cluster::harm::{Stress, StressReading};

/// How often it is looked whether it is still there.
const LOOKED: Duration = Duration::from_millis(200);

async fn put(site: &Site, stress: Option<Stress>) -> Result<(), ClusterError> {
    each(&site.targets, async |node| site.states.stress(&*site.cluster, &node, &site.id, stress).await).await
}

/// Of all targets: the first that is not under it decides.
async fn installed(site: &Site, there: impl Fn(&StressReading) -> bool) -> Finding {
    let mut told = Vec::new();
    for node in &site.targets {
        match site.cluster.stress(node).await {
            Ok(reading) if reading.running && there(&reading) => told.push(node.clone()),
            Ok(reading) => return Finding::no(format!("{node}: {reading:?}")),
            Err(error) => return Finding::no(error.to_string()),
        }
    }
    Finding::yes(format!("it runs in {}", told.join(", ")))
}

/// Until it no longer runs anywhere: with `heal: agent` a restart, or whoever ends it, is the end of it.
async fn gone(site: &Site) -> Option<Finding> {
    let restarted = site.starts();
    let by_agent = site.heal == crate::scenario::model::Heal::Agent;
    loop {
        tokio::time::sleep(LOOKED).await;
        let mut running = false;
        for node in &site.targets {
            running |= site.cluster.stress(node).await.ok()?.running;
        }
        let ended = !running || site.starts() > restarted;
        let lifted = site.targets.iter().all(|node| !site.states.is_on(node, &site.id));
        if lifted || (by_agent && ended) {
            if !lifted {
                // It does not come back with the node.
                put(site, None).await.ok()?;
            }
            return Some(Finding::yes(format!("nothing runs beside {} any more", site.targets.join(", "))));
        }
    }
}

/// Whether what nobody may end still runs where the node does.
async fn intact(site: &Site) -> Option<Finding> {
    for node in &site.targets {
        if !site.states.is_on(node, &site.id) {
            return None;
        }
        let up =
            |site: &Site| site.statuses().iter().any(|status| status.node == *node && status.state == crate::event::NodeState::Running);
        let reading = site.cluster.stress(node).await.ok()?;
        let starts = site.starts();
        if reading.running || !up(site) {
            continue;
        }
        // It comes back with the node, which takes a moment.
        tokio::time::sleep(LOOKED * 10).await;
        let again = site.cluster.stress(node).await.ok()?;
        if !again.running && up(site) && site.starts() == starts && site.states.is_on(node, &site.id) {
            return Some(Finding::no(format!("what ran in {node} was ended")));
        }
    }
    Some(Finding::yes(""))
}
