//! `bandwidth`: no more than so many bytes a second.

use std::time::Duration;

use super::Pair;
use super::shaped::Measure;
use super::{PACKETS, RELAY};
use crate::chaos::catalogue::{Kind, Repair};
use crate::chaos::fault::Finding;

pub(in crate::chaos) const KIND: Kind =
    Kind { name: "bandwidth", local: RELAY, docker: PACKETS, refused: "", repair: Repair::Nobody, class: "bandwidth", holds: None };

/// How long bytes are sent.
const DURING: Duration = Duration::from_millis(300);

pub(super) async fn measured(site: &crate::chaos::fault::Site, pair: &Pair) -> Result<f64, String> {
    site.cluster.throughput(&pair.from, &pair.to, pair.port.as_deref(), DURING).await
}

/// Fewer bytes arrive than before, and about as many as asked for.
pub(super) async fn felt(measure: &Measure<'_>) -> Finding {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let asked = measure.path.shape.rate.unwrap_or_default() as f64;
    let before = measure.before.throughput.unwrap_or_default();
    match measured(measure.site, &measure.before.watched.hit).await {
        Ok(now) => {
            // A short look at a slow link sees what was in its buffers too.
            let ok = now < before && now <= asked * 1.5 + 16_384.0;
            let detail = format!("{} {:.2} MB/s (asked {:.2} MB/s)", measure.before.watched.hit.name(), now / 1e6, asked / 1e6);
            let found = Finding::new(ok, detail).with("before_mb_s", before / 1e6);
            found.with("measured_mb_s", now / 1e6).with("asked_mb_s", asked / 1e6)
        }
        Err(error) => Finding::no(error),
    }
}
