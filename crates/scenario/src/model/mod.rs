//! Resolved form of all files, with all defaults applied. There is one module per kind of file, and `chaos` for the times of faults. The
//! faults themselves are in [`chaosrun_fault`].

mod action;
mod autopsy;
mod campaign;
mod chaos;
mod cluster;
mod judge;
mod scenario;
mod scoring;
mod variant;
mod workload;

use std::time::Duration;

use serde::Serializer;

pub use action::*;
pub use autopsy::*;
pub use campaign::*;
pub use chaos::*;
pub use cluster::*;
pub use judge::*;
pub use scenario::*;
pub use scoring::*;
pub use variant::*;
pub use workload::*;

pub use chaosrun_fault::{Fault, Heal, Pick, Ramp, Target, TargetOf};
use chaosrun_input::quantity::serialize_duration as duration;

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn maybe_duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => duration(value, serializer),
        None => serializer.serialize_none(),
    }
}
