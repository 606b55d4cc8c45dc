//! Observations: what the probes of a cluster file say, one file a kind of probe.
//!
//! All due probes run at once, each with its own timeout; one that hangs delays no other. A probe that fails is an
//! observation too: `.ok` is false, `.error` says why, and everything else of it is unknown.

mod answer;
mod observer;
mod snapshot;

mod alive;
mod exec;
mod http;
mod log;
pub mod metrics;
mod promql;
pub mod redis;
mod tcp;
mod workload;

pub use answer::{Answer, Body};
pub use http::{HttpClient, Response};
pub use log::LogRules;
pub use observer::{Completed, Observer, ObserverConfig};
pub use snapshot::{ProbeState, Snapshot};
