//! The files as they are written: unknown fields denied, everything still text. Never leaves `scenario`.
//!
//! Doc comments here are what editors show: they become the descriptions of the JSON Schemas.

mod action;
mod autopsy;
mod campaign;
mod chaos;
mod cluster;
mod scalar;
mod scenario;
mod scoring;
mod variant;

pub use action::*;
pub use autopsy::*;
pub use campaign::*;
pub use chaos::*;
pub use cluster::*;
pub use scalar::*;
pub use scenario::*;
pub use scoring::*;
pub use variant::*;
