//! Check of the capabilities of this machine. Each capability is tested in practice where possible. The result is a list of findings.

pub mod finding;

pub mod machine;

pub mod leftovers;
