//! `connection_reset`: connections are reset by the first data they carry.

use std::time::{Duration, Instant};

use super::shaped::Measure;
use super::{PACKETS, RELAY, read_back};
use crate::chaos::catalogue::{Kind, Repair};
use crate::chaos::fault::{FELT_WITHIN, Finding};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "connection_reset",
    local: RELAY,
    docker: PACKETS,
    refused: "",
    repair: Repair::Nobody,
    class: "connection_reset",
    holds: None,
};

/// How long a connection of ours sends.
const DURING: Duration = Duration::from_millis(20);

/// A connection of ours is reset, or those of the nodes were.
pub(super) async fn felt(measure: &Measure<'_>) -> Finding {
    let deadline = Instant::now() + FELT_WITHIN;
    let (mut tried, asked) = (0_u32, measure.path.shape.reset);
    let pair = &measure.before.watched.hit;
    while Instant::now() < deadline {
        tried += 1;
        if let Err(how) = measure.site.cluster.throughput(&pair.from, &pair.to, pair.port.as_deref(), DURING).await {
            let detail = format!("connection {tried} of {} {how}", pair.name());
            return Finding::yes(detail).with("asked_percent", asked * 100.0).with("connections", f64::from(tried));
        }
        let counted = read_back(measure.site, std::slice::from_ref(&measure.path)).await.unwrap_or_default();
        if let Some(reset) = counted.iter().filter_map(|state| state.counted).map(|counted| counted.reset).find(|reset| *reset > 0) {
            return Finding::yes(format!("{reset} connections of {} were reset", pair.name())).with("asked_percent", asked * 100.0);
        }
    }
    Finding::no(format!("none of {tried} connections of {} was reset", pair.name()))
}
