//! Measurement of the processor and memory usage of nodes. It runs continuously, because processor usage is the difference between two
//! measurements.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use chaosrun_cluster::{Cluster, NodeUsage};
use chaosrun_event::NodeState;

/// Interval between two measurements of resource usage.
const EVERY: Duration = Duration::from_secs(1);

/// Latest measurement of the resource usage of a node.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    at: Instant,
    pub usage: NodeUsage,
    /// Processor usage since the previous measurement, in percent of one processor. `None` after the first measurement.
    pub cpu: Option<f64>,
}

/// Latest measurement of each node, by the name of the node.
#[derive(Debug, Clone, Default)]
pub(super) struct UsageMeter(Arc<Mutex<HashMap<String, Reading>>>);

impl UsageMeter {
    pub(super) fn read(&self, node: &str) -> Option<Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    pub(super) async fn run(self, cluster: Arc<dyn Cluster>, token: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => (),
                () = token.cancelled() => return,
            }
            let running = cluster.status().into_iter().filter(|node| node.state == NodeState::Running);
            let measured = join_all(running.map(|node| {
                let cluster = Arc::clone(&cluster);
                async move {
                    // A node that cannot be measured now has no measurement.
                    let usage = cluster.usage(&node.node).await.ok()?;
                    Some((node.node, usage, Instant::now()))
                }
            }));
            let measured = tokio::select! {
                measured = measured => measured,
                () = token.cancelled() => return,
            };
            let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::take(&mut *readings);
            readings.extend(measured.into_iter().flatten().map(|(node, usage, at)| {
                let cpu = before.get(&node).and_then(|before| share(before, &usage, at));
                (node, Reading { at, usage, cpu })
            }));
        }
    }
}

/// Returns the processor usage between two measurements, in percent of one processor. Returns `None` if the node was restarted between the
/// two measurements.
fn share(before: &Reading, usage: &NodeUsage, at: Instant) -> Option<f64> {
    let used = usage.cpu.checked_sub(before.usage.cpu)?.as_secs_f64();
    let passed = at.checked_duration_since(before.at)?.as_secs_f64();
    (passed > 0.0).then(|| 100.0 * used / passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_per_processor_and_per_start() {
        let at = Instant::now();
        let used = |seconds| NodeUsage { cpu: Duration::from_secs(seconds), ..NodeUsage::default() };
        let before = Reading { at, usage: used(10), cpu: None };
        assert_eq!(share(&before, &used(13), at + Duration::from_secs(2)), Some(150.0));
        assert_eq!(share(&before, &used(10), at + Duration::from_secs(2)), Some(0.0));
        assert_eq!(share(&before, &used(1), at + Duration::from_secs(2)), None);
        assert_eq!(share(&before, &used(10), at), None);
    }
}
