//! What `chaosrun node ...` runs: a small real replicated store with PD's and TiKV's outward faces, a rate limiter over Redis,
//! and a model that says what a script says.

pub mod log;
pub mod model;
pub mod pd;
pub mod raft;
pub mod ratelimiter;
pub mod tikv;
pub mod wire;
