//! `latency`: what is sent arrives later.

use std::time::Duration;

use super::shaped::Measure;
use super::{PACKETS, RELAY, median, ping};
use crate::chaos::catalogue::{Kind, Repair};
use crate::chaos::fault::{Finding, PROBE, ms};

pub(in crate::chaos) const KIND: Kind =
    Kind { name: "latency", local: RELAY, docker: PACKETS, refused: "", repair: Repair::Nobody, class: "network_latency", holds: None };

/// The round trip grows by what is asked for each direction that is hit.
pub(super) async fn felt(measure: &Measure<'_>) -> Finding {
    let Measure { site, before, path, symmetric } = measure;
    let shape = path.shape;
    let timeout = PROBE + (shape.delay + shape.jitter * 4) * 2;
    let pings = match ping(site, &before.watched.hit, 25, Duration::from_millis(4), timeout).await {
        Ok(pings) => pings,
        Err(error) => return Finding::no(error),
    };
    let Some(now) = median(&pings) else { return Finding::no(format!("none of {} pings was answered", pings.sent)) };
    let asked = shape.delay * if *symmetric { 2 } else { 1 };
    let grown = now.saturating_sub(before.rtt);
    // With a delay of nothing it is the scatter that counts.
    let spread =
        pings.answered.iter().max().copied().unwrap_or_default().saturating_sub(pings.answered.iter().min().copied().unwrap_or_default());
    let ok = if asked.is_zero() { spread * 2 >= shape.jitter } else { grown * 2 >= asked };
    let detail = format!("{} {} (asked {} more, spread {})", before.watched.hit.name(), ms(now), ms(asked), ms(spread));
    let found = Finding::new(ok, detail).time("rtt_before_ms", before.rtt).time("rtt_ms", now).time("asked_ms", asked);
    found.time("added_ms", grown).time("spread_ms", spread)
}
