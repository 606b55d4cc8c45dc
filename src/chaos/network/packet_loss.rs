//! `packet_loss`: a share of the packets is lost.

use super::shaped::{Measure, many, shares};
use super::{PACKETS, STREAM};
use crate::chaos::catalogue::{Kind, Repair};
use crate::chaos::fault::Finding;

pub(in crate::chaos) const KIND: Kind =
    Kind { name: "packet_loss", local: &[], docker: PACKETS, refused: STREAM, repair: Repair::Nobody, class: "packet_loss", holds: None };

/// Pings get no answer.
pub(super) async fn felt(measure: &Measure<'_>) -> Finding {
    let share = measure.path.shape.loss;
    match many(measure, share).await {
        // Lost on either way, where both are hit.
        Ok(pings) => {
            let asked = if measure.symmetric { 1.0 - (1.0 - share) * (1.0 - share) } else { share };
            let answered = u32::try_from(pings.answered.len()).unwrap_or(u32::MAX);
            shares(asked, pings.sent, pings.sent.saturating_sub(answered), "were lost")
        }
        Err(error) => Finding::no(error),
    }
}
