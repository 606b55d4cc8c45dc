//! `reorder`: a share of the packets is delayed, so that later packets overtake them.

use std::time::Duration;

use async_trait::async_trait;

use crate::description::on;
use crate::network::links::{LinkEffect, Measure, link_parameters, many, resolved, shares};
use crate::network::{PACKETS, STREAM};
use crate::{DOCKER, FaultDescription, FaultFinding, LOCAL, Repair, Resolution, Resolver};
use chaosrun_cluster::fault_control::{LinkCounters, Shape};
use chaosrun_input::{RawAmount, RawDuration, quantity};

/// Fixed data of the fault `reorder`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "reorder",
    summary: "Delays a share of the packets, so that later packets overtake them.",
    example: "reorder: { to: tikv3, percent: 33, delay: 20ms }",
    backends: &[on(LOCAL, &[]), on(DOCKER, PACKETS)],
    refused: STREAM,
    repair: Repair::Nobody,
    class: "packet_reordering",
    holds: None,
    prepares: None,
};

link_parameters! {
    "reorder",
    pub percent: RawAmount,
    /// Delay of the packets that are overtaken [default: 10ms].
    pub delay: Option<RawDuration>,
}

/// Checks the parameters of `reorder`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let share = to.amount("percent", Some(&read.percent), quantity::percent)?;
    let reorder_by = to.duration("delay", read.delay.as_ref(), Duration::from_millis(10));
    resolved(to, &Reorder, &read.ends(), Shape { reorder: share / 100.0, reorder_by, ..Shape::default() }, None)
}

#[derive(Debug)]
struct Reorder;

#[async_trait]
impl LinkEffect for Reorder {
    fn name(&self) -> &'static str {
        DESCRIPTION.name
    }

    fn with(&self, shape: Shape, value: f64) -> Shape {
        Shape { reorder: value, ..shape }
    }

    fn counted(&self) -> (&'static str, fn(&LinkCounters) -> u64) {
        ("reordered", |counted| counted.reordered)
    }

    /// Checks that some answers arrive before the answers to earlier pings.
    async fn felt(&self, measure: &Measure<'_>) -> FaultFinding {
        let share = measure.path.shape.reorder;
        match many(measure, share).await {
            Ok(pings) => {
                // Packets that are delayed together do not overtake each other, so fewer answers may be affected.
                let found = shares(share, pings.sent, pings.reordered, "answers overtook others");
                FaultFinding { ok: pings.reordered > 0, ..found }
            }
            Err(error) => FaultFinding::no(error),
        }
    }
}
