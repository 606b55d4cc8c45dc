//! The resolved form of a scenario: everything decided, nothing optional that a default could decide. A file a kind of file, and two
//! for what happens to a cluster: `chaos` (when, whom) and `fault` (what).

mod action;
mod autopsy;
mod campaign;
mod chaos;
mod cluster;
mod fault;
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
pub use fault::*;
pub use judge::*;
pub use scenario::*;
pub use scoring::*;
pub use variant::*;
pub use workload::*;

/// Durations are printed as people write them: `500ms`, `1m 30s`.
fn duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*value))
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn maybe_duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => duration(value, serializer),
        None => serializer.serialize_none(),
    }
}
