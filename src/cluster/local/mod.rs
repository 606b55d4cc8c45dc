//! Real processes on loopback: no root, no Docker, no network.

pub mod relay;
pub mod supervisor;
