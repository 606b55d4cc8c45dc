//! What `chaosrun node ...` runs: a small real replicated store with PD's and TiKV's outward faces, and a rate limiter over Redis.

pub mod log;
pub mod pd;
pub mod raft;
pub mod ratelimiter;
pub mod tikv;
pub mod wire;
