//! Programs of `chaosrun node ...`: a small real replicated store with the external interfaces of PD and TiKV, and a rate limiter over
//! Redis.

pub mod log;
pub mod pd;
pub mod raft;
pub mod ratelimiter;
pub mod tikv;
pub mod wire;
