//! Real processes on loopback: no root, no Docker, no network.
//!
//! Reading order: [`supervisor`] (owns every process), [`program`] (what nodes run and where), `address`, `render` (the
//! cluster file made concrete), `node` (one node's life), `ready`, [`relay`] and `roster` (links and who is at their
//! ends), `seat`, [`sandbox`] and `door` (where an agent works), `cluster` (all of it as a [`crate::cluster::Cluster`]), `harm` (what faults do to it).

mod address;
mod ask;
mod clock;
mod cluster;
mod definition;
mod disk;
pub(in crate::cluster) mod door;
mod files;
pub mod folder;
mod harm;
pub(in crate::cluster) mod layer;
mod links;
mod log;
mod node;
mod options;
mod plan;
pub mod program;
pub mod relay;
mod roster;
pub mod sandbox;
pub mod seat;
mod stdio;
mod stress;
pub mod supervisor;
mod terminal;
mod usage;

pub use cluster::LocalCluster;
pub use options::LocalOptions;
pub use program::WorkRoot;
