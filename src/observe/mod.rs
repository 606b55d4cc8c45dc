//! Probes.
pub mod metrics;
