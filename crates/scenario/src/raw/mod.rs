//! Raw types of the files: unknown fields are denied and values are still text. Used only within `scenario`.
//!
//! Doc comments here appear in editors: they become the descriptions of the JSON Schemas.

mod action;
mod autopsy;
mod campaign;
mod chaos;
mod cluster;
mod scenario;
mod scoring;
mod variant;

pub use action::*;
pub use autopsy::*;
pub use campaign::*;
pub use chaos::*;
pub use cluster::*;
pub use scenario::*;
pub use scoring::*;
pub use variant::*;

pub use chaosrun_input::scalar::*;
