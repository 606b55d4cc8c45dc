//! Probe `on: workload` returns statistics of the running workload over a time window.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::answer::{AnswerBody, ProbeReply};
use super::failure::ProbeFailure;
use super::kind::{ObservationProbe, Prepared, ProbeKind, ProbeSite, ProbeTarget};
use chaosrun_expr::of_serde;
use chaosrun_input::quantity::serialize_duration;

#[derive(Debug, Clone, Serialize)]
pub struct WorkloadProbe {
    #[serde(serialize_with = "serialize_duration")]
    pub window: Duration,
}

impl ProbeKind for WorkloadProbe {
    fn prepare(&self, _: &ProbeTarget<'_>) -> Result<Prepared, String> {
        Ok(Prepared::Look(Arc::new(self.clone())))
    }
}

impl ObservationProbe for WorkloadProbe {
    fn look(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        let Some(figures) = site.figures() else { return Err(ProbeFailure::Told("no workload runs".into())) };
        let json = figures.window(self.window);
        let reply = ProbeReply::new(true, AnswerBody::Json(of_serde(&json), json.to_string().into()));
        // The statistics of a workload that has ended become stale with time.
        Ok(ProbeReply { age: figures.age(), ..reply })
    }
}
