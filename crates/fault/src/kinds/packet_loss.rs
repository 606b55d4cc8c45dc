//! `packet_loss`: a share of the packets is lost.

use async_trait::async_trait;

use crate::description::on;
use crate::network::links::{LinkEffect, Measure, link_parameters, many, resolved, shares};
use crate::network::{PACKETS, STREAM};
use crate::{DOCKER, FaultDescription, FaultFinding, LOCAL, Repair, Resolution, Resolver};
use chaosrun_cluster::fault_control::{LinkCounters, Shape};
use chaosrun_input::{RawAmount, RawRamped, quantity};

/// Fixed data of the fault `packet_loss`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "packet_loss",
    summary: "Drops a share of the packets.",
    example: "packet_loss: { to: tikv3, percent: 10 }",
    backends: &[on(LOCAL, &[]), on(DOCKER, PACKETS)],
    refused: STREAM,
    repair: Repair::Nobody,
    class: "packet_loss",
    holds: None,
    prepares: None,
};

link_parameters! {
    "packet_loss",
    pub percent: RawRamped,
    /// Correlation of a packet's loss with the previous one, in percent [default: 0].
    pub correlation: Option<RawAmount>,
}

/// Checks the parameters of `packet_loss`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let loss = to.ramped("percent", &read.percent, |text| Ok(quantity::percent(text)? / 100.0));
    let correlation = to.amount("correlation", read.correlation.as_ref(), quantity::percent);
    let (loss, ramp) = loss?;
    let shape = Shape { loss, loss_correlation: correlation.unwrap_or_default() / 100.0, ..Shape::default() };
    resolved(to, &PacketLoss, &read.ends(), shape, ramp)
}

#[derive(Debug)]
struct PacketLoss;

#[async_trait]
impl LinkEffect for PacketLoss {
    fn name(&self) -> &'static str {
        DESCRIPTION.name
    }

    fn with(&self, shape: Shape, value: f64) -> Shape {
        Shape { loss: value, ..shape }
    }

    fn counted(&self) -> (&'static str, fn(&LinkCounters) -> u64) {
        ("lost", |counted| counted.dropped)
    }

    /// Checks that some pings get no answer.
    async fn felt(&self, measure: &Measure<'_>) -> FaultFinding {
        let share = measure.path.shape.loss;
        match many(measure, share).await {
            // If both directions are affected, a ping can be lost in either direction.
            Ok(pings) => {
                let asked = if measure.symmetric { 1.0 - (1.0 - share) * (1.0 - share) } else { share };
                let answered = u32::try_from(pings.answered.len()).unwrap_or(u32::MAX);
                shares(asked, pings.sent, pings.sent.saturating_sub(answered), "were lost")
            }
            Err(error) => FaultFinding::no(error),
        }
    }
}
