//! `connection_reset`: a connection is reset when it first carries data.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::description::on;
use crate::network::links::{LinkEffect, Measure, link_parameters, resolved};
use crate::network::{PACKETS, RELAY, read_back};
use crate::{DOCKER, FELT_WITHIN, FaultDescription, FaultFinding, LOCAL, Repair, Resolution, Resolver};
use chaosrun_cluster::fault_control::{LinkCounters, Shape};
use chaosrun_input::{RawAmount, quantity};

/// Fixed data of the fault `connection_reset`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "connection_reset",
    summary: "Resets a share of the connections when they first carry data.",
    example: "connection_reset: { to: { select: region_leaders, pick: 1 }, percent: 40 }",
    backends: &[on(LOCAL, RELAY), on(DOCKER, PACKETS)],
    refused: "",
    repair: Repair::Nobody,
    class: "connection_reset",
    holds: None,
    prepares: None,
};

link_parameters! {
    "connection_reset",
    /// Percentage of the connections [default: 100].
    pub percent: Option<RawAmount>,
}

/// Checks the parameters of `connection_reset`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let share = to.amount("percent", read.percent.as_ref(), quantity::percent).unwrap_or(100.0);
    resolved(to, &ConnectionReset, &read.ends(), Shape { reset: share / 100.0, ..Shape::default() }, None)
}

/// Duration for which a test connection sends data.
const DURING: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct ConnectionReset;

#[async_trait]
impl LinkEffect for ConnectionReset {
    fn name(&self) -> &'static str {
        DESCRIPTION.name
    }

    fn with(&self, shape: Shape, value: f64) -> Shape {
        Shape { reset: value, ..shape }
    }

    fn counted(&self) -> (&'static str, fn(&LinkCounters) -> u64) {
        ("reset", |counted| counted.reset)
    }

    /// Checks that a test connection is reset, or that connections of nodes were reset.
    async fn felt(&self, measure: &Measure<'_>) -> FaultFinding {
        let deadline = Instant::now() + FELT_WITHIN;
        let (mut tried, asked) = (0_u32, measure.path.shape.reset);
        let pair = &measure.before.watched.hit;
        while Instant::now() < deadline {
            tried += 1;
            if let Err(how) = measure.context.cluster.throughput(&pair.from, &pair.to, pair.port.as_deref(), DURING).await {
                let detail = format!("connection {tried} of {} {how}", pair.name());
                return FaultFinding::yes(detail).with("asked_percent", asked * 100.0).with("connections", f64::from(tried));
            }
            let counted = read_back(measure.context, std::slice::from_ref(&measure.path)).await.unwrap_or_default();
            if let Some(reset) = counted.iter().filter_map(|state| state.counted).map(|counted| counted.reset).find(|reset| *reset > 0) {
                return FaultFinding::yes(format!("{reset} connections of {} were reset", pair.name()))
                    .with("asked_percent", asked * 100.0);
            }
        }
        FaultFinding::no(format!("none of {tried} connections of {} was reset", pair.name()))
    }
}
