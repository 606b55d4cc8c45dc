//! Real processes on loopback: no root, no Docker, no network.
//!
//! Reading order: [`supervisor`] (owns every process), [`program`] (what nodes run and where), `address`, `render` (the
//! cluster file made concrete), `node` (one node's life), `ready`, [`relay`] and `roster` (links and who is at their
//! ends), `cluster` (all of it as a [`crate::cluster::Cluster`]).

mod address;
mod cluster;
mod node;
mod options;
pub mod program;
mod ready;
pub mod relay;
mod render;
mod roster;
pub mod seat;
pub mod supervisor;
mod tail;

pub use cluster::LocalCluster;
pub use options::LocalOptions;
pub use program::WorkRoot;
