//! Raw types of all files. They deny unknown fields, and their values still have the notation of the file. Only this crate uses them.
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
