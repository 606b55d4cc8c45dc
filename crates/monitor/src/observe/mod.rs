//! Observations: the answers of all probes of a cluster file, as expressions access them.
//!
//! All due probes run at once, each with its own timeout; a probe that hangs does not delay the others. A failed probe is an observation
//! too: `.ok` is false, `.error` is the reason, and all other values are unknown.

mod observer;
mod snapshot;

pub use observer::{Completed, ObserverConfig, ProbeRunner};
pub use snapshot::{ProbeSnapshot, ProbeState};
