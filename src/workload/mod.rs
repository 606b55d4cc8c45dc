//! The load on a cluster, and what its users saw: clients at a fixed rate, a history of every operation, and the verdict on it.

pub mod sequence;

pub mod history;

pub mod check;
pub mod hurt;
pub mod stats;
