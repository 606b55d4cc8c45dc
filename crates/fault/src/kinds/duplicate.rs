//! `duplicate`: a share of the packets is delivered twice.

use async_trait::async_trait;

use crate::description::on;
use crate::network::links::{LinkEffect, Measure, link_parameters, many, resolved, shares};
use crate::network::{PACKETS, STREAM};
use crate::{DOCKER, FaultDescription, FaultFinding, LOCAL, Repair, Resolution, Resolver};
use chaosrun_cluster::fault_control::{LinkCounters, Shape};
use chaosrun_input::{RawAmount, quantity};

/// Fixed data of the fault `duplicate`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "duplicate",
    summary: "Delivers a share of the packets twice.",
    example: "duplicate: { from: tikv3, percent: 7 }",
    backends: &[on(LOCAL, &[]), on(DOCKER, PACKETS)],
    refused: STREAM,
    repair: Repair::Nobody,
    class: "packet_duplication",
    holds: None,
    prepares: None,
};

link_parameters! {
    "duplicate",
    pub percent: RawAmount,
}

/// Checks the parameters of `duplicate`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let duplicate = to.amount("percent", Some(&read.percent), quantity::percent)? / 100.0;
    resolved(to, &Duplicate, &read.ends(), Shape { duplicate, ..Shape::default() }, None)
}

#[derive(Debug)]
struct Duplicate;

#[async_trait]
impl LinkEffect for Duplicate {
    fn name(&self) -> &'static str {
        DESCRIPTION.name
    }

    fn with(&self, shape: Shape, value: f64) -> Shape {
        Shape { duplicate: value, ..shape }
    }

    fn counted(&self) -> (&'static str, fn(&LinkCounters) -> u64) {
        ("duplicated", |counted| counted.duplicated)
    }

    /// Checks that some pings are answered twice.
    async fn felt(&self, measure: &Measure<'_>) -> FaultFinding {
        let share = measure.path.shape.duplicate;
        match many(measure, share).await {
            Ok(pings) => shares(share, pings.sent, pings.duplicates, "came twice"),
            Err(error) => FaultFinding::no(error),
        }
    }
}
