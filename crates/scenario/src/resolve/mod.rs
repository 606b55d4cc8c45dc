//! Resolution of raw types to the model. The functions are pure, and each one returns all problems of its part. It also returns the best
//! possible model, so that dependent parts can be checked too. If there is any problem, `load` rejects the whole file.

mod action;
mod autopsy;
mod campaign;
mod chaos;
mod cluster;
mod judge;
mod probe;
mod program;
mod provider;
mod scenario;
mod scoring;
mod variant;
mod workload;

pub(crate) use action::unfit;
pub use autopsy::autopsy;
pub use campaign::campaign;
pub use chaos::{FaultScope, alone};
pub(super) use cluster::stem;
pub use cluster::{ClusterForm, cluster};
pub use judge::judge;
pub use program::brought;
pub use provider::prompts;
pub(crate) use scenario::{DEFAULT_VARIANT, missing_variant};
pub use scenario::{FoundVariant, Surroundings, scenario};
pub use scoring::scoring;
pub use variant::{FAULT_CLASSES, variant};

use chaosrun_input::{Checker, Names, item_of, quantity, unknown};

/// Returns the content of a file with the key `name` set to the resolved name.
fn named(value: &serde_json::Value, name: &str) -> serde_json::Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.insert("name".into(), name.into());
    }
    value
}
