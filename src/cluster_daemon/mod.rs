//! Cluster daemon: a separate process that keeps a cluster running outside of trials until a request or a signal ends the cluster.
//!
//! Reading order: [`folder`] (location of a kept cluster, and check that its daemon is alive), [`wire`] (messages on the socket),
//! [`client`] (client side), `daemon` (main function), `request_handler` and `server` (handling of requests), `faults` (state of manually
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
