//! The backend `docker`: one internal network a trial; a node is a *holder* container that owns its network namespace, and
//! the workload container joined to it, so that what is done to a node's network outlives its restarts.

pub mod address;
mod agent;
mod clock;
mod cluster;
mod definition;
mod disk;
pub mod engine;
pub mod error;
mod events;
mod exec;
mod files;
mod harm;
pub mod holder;
pub mod image;
mod layer;
mod links;
mod network;
mod node;
pub mod once;
mod plan;
pub mod reap;
mod stress;
mod tool;
mod usage;

pub use cluster::{DockerCluster, DockerOptions};
pub use engine::Engine;
pub use error::EngineError;
