//! `bandwidth`: the link carries a limited number of bytes per second.

use std::time::Duration;

use async_trait::async_trait;

use crate::description::on;
use crate::network::links::{LinkEffect, Measure, link_parameters, resolved};
use crate::network::{NodePair, PACKETS, RELAY};
use crate::{DOCKER, FaultContext, FaultDescription, FaultFinding, LOCAL, Repair, Resolution, Resolver};
use chaosrun_cluster::fault_control::{LinkCounters, Shape};
use chaosrun_input::{RawRamped, quantity};

/// Fixed data of the fault `bandwidth`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "bandwidth",
    summary: "Limits the data rate of a link.",
    example: "bandwidth: { to: tikv3, rate: 10mbit }",
    backends: &[on(LOCAL, RELAY), on(DOCKER, PACKETS)],
    refused: "",
    repair: Repair::Nobody,
    class: "bandwidth",
    holds: None,
    prepares: None,
};

link_parameters! {
    "bandwidth",
    /// Maximum data rate, for example `10mbit` or `1MiB/s`.
    pub rate: RawRamped,
}

/// Checks the parameters of `bandwidth`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let (rate, ramp) = to.ramped("rate", &read.rate, quantity::rate)?;
    resolved(to, &Bandwidth, &read.ends(), Bandwidth.with(Shape::default(), rate), ramp)
}

/// Duration of the transfer that measures the throughput.
const DURING: Duration = Duration::from_millis(300);

async fn measured(context: &FaultContext, pair: &NodePair) -> Result<f64, String> {
    context.cluster.throughput(&pair.from, &pair.to, pair.port.as_deref(), DURING).await
}

#[derive(Debug)]
struct Bandwidth;

#[async_trait]
impl LinkEffect for Bandwidth {
    fn name(&self) -> &'static str {
        DESCRIPTION.name
    }

    fn with(&self, shape: Shape, value: f64) -> Shape {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes per second, at least 1000")]
        let rate = value as u64;
        Shape { rate: Some(rate), ..shape }
    }

    fn counted(&self) -> (&'static str, fn(&LinkCounters) -> u64) {
        ("held back", |counted| counted.delayed + counted.dropped)
    }

    async fn throughput(&self, context: &FaultContext, pair: &NodePair) -> Result<Option<f64>, String> {
        Ok(Some(measured(context, pair).await?))
    }

    /// Checks that fewer bytes arrive per second than before the fault, and about as many as requested.
    async fn felt(&self, measure: &Measure<'_>) -> FaultFinding {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let asked = measure.path.shape.rate.unwrap_or_default() as f64;
        let before = measure.before.throughput.unwrap_or_default();
        match measured(measure.context, &measure.before.watched.hit).await {
            Ok(now) => {
                // A short measurement of a slow link also counts the bytes in buffers, so the check allows a surplus.
                let ok = now < before && now <= asked * 1.5 + 16_384.0;
                let detail = format!("{} {:.2} MB/s (asked {:.2} MB/s)", measure.before.watched.hit.name(), now / 1e6, asked / 1e6);
                let found = FaultFinding::new(ok, detail).with("before_mb_s", before / 1e6);
                found.with("measured_mb_s", now / 1e6).with("asked_mb_s", asked / 1e6)
            }
            Err(error) => FaultFinding::no(error),
        }
    }
}
