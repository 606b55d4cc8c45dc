//! Capabilities of this machine: tried where possible, reported as a list of findings.

pub mod finding;

pub mod machine;

pub mod leftovers;
