//! Command line and reports of chaosrun, which tells whether an AI agent can be trusted with a distributed system when it breaks.
//!
//! Everything below is a crate of its own in `crates/`; ARCHITECTURE.md lists them in their order.

pub mod cli;
pub mod cluster_daemon;
pub mod doctor;
pub mod exit;
pub mod report;
