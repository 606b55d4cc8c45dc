//! Command line and reports of chaosrun, which tells whether an AI agent can be trusted with a distributed system when it breaks.
//!
//! Everything else is in the crates of `crates/`. ARCHITECTURE.md lists them by layer.

pub mod cli;
pub mod cluster_daemon;
pub mod doctor;
pub mod exit;
pub mod report;
