//! `corrupt`: a bit of a share of the packets is turned, and whoever checks throws them away.

use super::shaped::{Measure, many, shares};
use super::{PACKETS, STREAM};
use crate::chaos::catalogue::{Kind, Repair};
use crate::chaos::fault::Finding;

pub(in crate::chaos) const KIND: Kind =
    Kind { name: "corrupt", local: &[], docker: PACKETS, refused: STREAM, repair: Repair::Nobody, class: "packet_corruption", holds: None };

/// Pings get no answer: whoever receives them throws them away.
pub(super) async fn felt(measure: &Measure<'_>) -> Finding {
    let share = measure.path.shape.corrupt;
    match many(measure, share).await {
        Ok(pings) => {
            let answered = u32::try_from(pings.answered.len()).unwrap_or(u32::MAX);
            shares(share, pings.sent, pings.sent.saturating_sub(answered), "were thrown away")
        }
        Err(error) => Finding::no(error),
    }
}
