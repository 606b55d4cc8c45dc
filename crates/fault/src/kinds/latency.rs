//! `latency`: packets arrive with an additional delay.

use std::time::Duration;

use async_trait::async_trait;

use crate::description::on;
use crate::network::links::{LinkEffect, Measure, link_parameters, resolved};
use crate::network::{PACKETS, RELAY, median, ping};
use crate::{DOCKER, FaultDescription, FaultFinding, LOCAL, PROBE, Repair, Resolution, Resolver, ms};
use chaosrun_cluster::fault_control::{Distribution, LinkCounters, Shape};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::{RawAmount, RawDuration, RawRamped, quantity};

/// Fixed data of the fault `latency`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "latency",
    summary: "Delays the data that nodes send to each other.",
    example: "latency: { to: tikv3, delay: 50ms, jitter: 5ms }",
    backends: &[on(LOCAL, RELAY), on(DOCKER, PACKETS)],
    refused: "",
    repair: Repair::Nobody,
    class: "network_latency",
    holds: None,
    prepares: None,
};

link_parameters! {
    "latency",
    /// Delay of the data in one direction.
    pub delay: RawRamped,
    /// Random variation of the delay [default: 0s].
    pub jitter: Option<RawDuration>,
    /// Correlation of a packet's delay with the previous one, in percent [default: 0].
    pub correlation: Option<RawAmount>,
    /// Distribution of the random variation [default: `uniform`].
    pub distribution: Option<Distribution>,
}

/// Checks the parameters of `latency`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let delay = to.ramped("delay", &read.delay, |text| Ok(quantity::duration(text)?.as_secs_f64()));
    let jitter = to.duration("jitter", read.jitter.as_ref(), Duration::ZERO);
    let correlation = to.amount("correlation", read.correlation.as_ref(), quantity::percent);
    let (delay, ramp) = delay?;
    let delay = Duration::from_secs_f64(delay);
    if delay.is_zero() && ramp.is_none() && jitter.is_zero() {
        to.wrong("delay", Diagnostic::error("out_of_range", "the delay is zero").label("expected a delay or a jitter above 0s"));
    }
    let shape = Shape {
        delay,
        jitter,
        correlation: correlation.unwrap_or_default() / 100.0,
        distribution: read.distribution.unwrap_or_default(),
        ..Shape::default()
    };
    resolved(to, &Latency, &read.ends(), shape, ramp)
}

#[derive(Debug)]
struct Latency;

#[async_trait]
impl LinkEffect for Latency {
    fn name(&self) -> &'static str {
        DESCRIPTION.name
    }

    fn with(&self, shape: Shape, value: f64) -> Shape {
        Shape { delay: Duration::from_secs_f64(value.max(0.0)), ..shape }
    }

    fn counted(&self) -> (&'static str, fn(&LinkCounters) -> u64) {
        ("delayed", |counted| counted.delayed)
    }

    /// Checks that the round-trip time has grown by the delay of each affected direction.
    async fn felt(&self, measure: &Measure<'_>) -> FaultFinding {
        let Measure { context, before, path, symmetric } = measure;
        let shape = path.shape;
        let timeout = PROBE + (shape.delay + shape.jitter * 4) * 2;
        let pings = match ping(context, &before.watched.hit, 25, Duration::from_millis(4), timeout).await {
            Ok(pings) => pings,
            Err(error) => return FaultFinding::no(error),
        };
        let Some(now) = median(&pings) else { return FaultFinding::no(format!("none of {} pings was answered", pings.sent)) };
        let asked = shape.delay * if *symmetric { 2 } else { 1 };
        let grown = now.saturating_sub(before.rtt);
        // If the fault has no constant delay, the check measures the jitter.
        let spread = pings
            .answered
            .iter()
            .max()
            .copied()
            .unwrap_or_default()
            .saturating_sub(pings.answered.iter().min().copied().unwrap_or_default());
        let ok = if asked.is_zero() { spread * 2 >= shape.jitter } else { grown * 2 >= asked };
        let detail = format!("{} {} (asked {} more, spread {})", before.watched.hit.name(), ms(now), ms(asked), ms(spread));
        let found = FaultFinding::new(ok, detail).time("rtt_before_ms", before.rtt).time("rtt_ms", now).time("asked_ms", asked);
        found.time("added_ms", grown).time("spread_ms", spread)
    }
}
