//! What this machine can do: found out by trying where that is possible, told as a list of findings.

pub mod finding;
pub mod support;

pub mod features;
pub mod machine;

pub mod leftovers;
