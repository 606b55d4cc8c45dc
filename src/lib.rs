//! Command line and reports of chaosrun. chaosrun tests whether an AI agent can be trusted with a distributed system when the system fails.
//!
//! All other code is in the folder `crates/`. ARCHITECTURE.md lists the crates by layer.

pub mod cli;
pub mod cluster_daemon;
pub mod doctor;
pub mod exit;
pub mod report;
