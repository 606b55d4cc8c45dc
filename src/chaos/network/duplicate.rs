//! `duplicate`: a share of the packets arrives twice.

use super::shaped::{Measure, many, shares};
use super::{PACKETS, STREAM};
use crate::chaos::catalogue::{Kind, Repair};
use crate::chaos::fault::Finding;

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "duplicate",
    local: &[],
    docker: PACKETS,
    refused: STREAM,
    repair: Repair::Nobody,
    class: "packet_duplication",
    holds: None,
};

/// Pings are answered twice.
pub(super) async fn felt(measure: &Measure<'_>) -> Finding {
    let share = measure.path.shape.duplicate;
    match many(measure, share).await {
        Ok(pings) => shares(share, pings.sent, pings.duplicates, "came twice"),
        Err(error) => Finding::no(error),
    }
}
