//! Cluster daemon: a separate process that keeps a cluster running outside of trials until a request or a signal ends the cluster.
//!
//! Reading order: [`folder`] (where a kept cluster is found, and whether its daemon lives), [`wire`] (messages on its socket), [`client`]
//! (the other end), `daemon` (the main function), `request_handler` and `server` (handling of requests), `faults` (state of manually
//! injected faults), `meter` (resource usage), `progress` (messages while the cluster comes up).

pub mod client;
mod daemon;
mod faults;
pub mod folder;
mod meter;
mod progress;
mod request_handler;
mod server;
pub mod wire;

pub use daemon::{DaemonFailure, ProgressSink, UpRequest, keep};
