//! Backend `local`: real processes on loopback, without root, Docker or a network.
//!
//! Reading order: [`supervisor`] (owns every process), [`place`] and [`program`] (directories of a run, and the program of nodes),
//! `address`, `plan` (start of a node according to the cluster file), `node` (lifecycle of a node), `readiness`, [`relay`] and `roster` (links, and the processes at their
//! ends), [`workspace`], [`sandbox`] and [`port_forwarder`] (workspace of an agent), `cluster` (implementation of
//! [`chaosrun_cluster::Cluster`]), `fault_control` (effects of faults).

mod address;
mod clock;
mod cluster;
mod definition;
mod disk;
mod fault_control;
mod files;
pub mod folder;
pub mod layer;
mod links;
mod log;
mod node;
mod options;
pub mod place;
mod plan;
pub mod port_forwarder;
pub mod program;
mod readiness;
pub mod relay;
mod roster;
pub mod sandbox;
mod stdio;
pub mod supervisor;
mod terminal;
mod trial;
mod usage;
pub mod workspace;

pub use cluster::LocalCluster;
pub use options::LocalOptions;
pub use program::WorkRoot;
