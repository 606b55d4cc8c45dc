//! `corrupt`: one bit is flipped in a share of the packets. The receiver verifies the checksum of packets and drops corrupt ones.

use async_trait::async_trait;

use crate::description::on;
use crate::network::links::{LinkEffect, Measure, link_parameters, many, resolved, shares};
use crate::network::{PACKETS, STREAM};
use crate::{DOCKER, FaultDescription, FaultFinding, LOCAL, Repair, Resolution, Resolver};
use chaosrun_cluster::fault_control::{LinkCounters, Shape};
use chaosrun_input::{RawAmount, quantity};

/// Fixed data of the fault `corrupt`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "corrupt",
    summary: "Flips one bit in a share of the packets.",
    example: "corrupt: { to: { role: tikv, pick: 50% }, percent: 0.1 }",
    backends: &[on(LOCAL, &[]), on(DOCKER, PACKETS)],
    refused: STREAM,
    repair: Repair::Nobody,
    class: "packet_corruption",
    holds: None,
    prepares: None,
};

link_parameters! {
    "corrupt",
    pub percent: RawAmount,
}

/// Checks the parameters of `corrupt`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let corrupt = to.amount("percent", Some(&read.percent), quantity::percent)? / 100.0;
    resolved(to, &Corrupt, &read.ends(), Shape { corrupt, ..Shape::default() }, None)
}

#[derive(Debug)]
struct Corrupt;

#[async_trait]
impl LinkEffect for Corrupt {
    fn name(&self) -> &'static str {
        DESCRIPTION.name
    }

    fn with(&self, shape: Shape, value: f64) -> Shape {
        Shape { corrupt: value, ..shape }
    }

    fn counted(&self) -> (&'static str, fn(&LinkCounters) -> u64) {
        ("corrupted", |counted| counted.corrupted)
    }

    /// Checks that some pings get no answer, because the receiver drops corrupt packets.
    async fn felt(&self, measure: &Measure<'_>) -> FaultFinding {
        let share = measure.path.shape.corrupt;
        match many(measure, share).await {
            Ok(pings) => {
                let answered = u32::try_from(pings.answered.len()).unwrap_or(u32::MAX);
                shares(share, pings.sent, pings.sent.saturating_sub(answered), "were thrown away")
            }
            Err(error) => FaultFinding::no(error),
        }
    }
}
