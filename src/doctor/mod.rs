//! Capabilities of this machine. They are tried where possible, and reported as a list of findings.

pub mod finding;

pub mod machine;

pub mod leftovers;
