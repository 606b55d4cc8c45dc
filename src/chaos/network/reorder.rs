//! `reorder`: a share of the packets is overtaken by later ones.

use super::shaped::{Measure, many, shares};
use super::{PACKETS, STREAM};
use crate::chaos::catalogue::{Kind, Repair};
use crate::chaos::fault::Finding;

pub(in crate::chaos) const KIND: Kind =
    Kind { name: "reorder", local: &[], docker: PACKETS, refused: STREAM, repair: Repair::Nobody, class: "packet_reordering", holds: None };

/// Answers come before those of earlier pings.
pub(super) async fn felt(measure: &Measure<'_>) -> Finding {
    let share = measure.path.shape.reorder;
    match many(measure, share).await {
        Ok(pings) => {
            // Of all that are held back at once, none is overtaken.
            let found = shares(share, pings.sent, pings.reordered, "answers overtook others");
            Finding { ok: pings.reordered > 0, ..found }
        }
        Err(error) => Finding::no(error),
    }
}
