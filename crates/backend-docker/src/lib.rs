//! Backend `docker`: one internal network per trial. A node consists of a *network sidecar* container, which owns the network namespace,
//! and of the workload container, which joins this namespace. Effects on the network of the node therefore survive restarts of the
//! workload.
//!
//! The functions that other crates call for themselves return boxed futures. Without the box, each calling crate would generate the code of
//! the future again, and with it the code that reads the answers of the engine.

pub mod address;
mod agent;
mod clock;
mod clock_volume;
mod cluster;
mod disk;
pub mod engine;
pub mod error;
mod events;
mod exec;
mod fault_control;
mod files;
pub mod image;
mod layer;
mod links;
mod network;
mod node;
pub mod once;
mod plan;
pub mod reap;
pub mod sidecar;
mod stress;
mod tool;
mod usage;

pub use cluster::{DockerCluster, DockerOptions};
pub use engine::Engine;
pub use error::EngineError;
