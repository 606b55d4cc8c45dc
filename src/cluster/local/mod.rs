//! Real processes on loopback: no root, no Docker, no network.
//!
//! Reading order: [`supervisor`] (owns every process), [`program`] (what nodes run and where), `address`, `render` (the
//! cluster file made concrete), `node` (one node's life), `ready`, [`relay`] and `roster` (links and who is at their
//! ends), `cluster` (all of it as a [`crate::cluster::Cluster`]).

mod address;
mod ask;
mod cluster;
mod links;
mod node;
mod options;
mod plan;
pub mod program;
pub mod relay;
mod roster;
pub mod seat;
pub mod supervisor;
mod terminal;
mod usage;

pub use cluster::LocalCluster;
pub use options::LocalOptions;
pub use program::WorkRoot;
