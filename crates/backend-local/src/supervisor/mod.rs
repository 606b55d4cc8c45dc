//! Supervisor: one small single-threaded process that owns every process of a run.
//!
//! The parent-death signal of Linux is tied to the *thread* that forked. Children forked by a multi-threaded runner would therefore die at
//! unexpected moments, and their own children would never die. The supervisor is started before the runner has a second thread. It spawns
//! every node and every command, and is the subreaper of all their descendants. The end of its socket means that the runner is gone. The
//! supervisor then kills and reaps until no descendant is left.
//!
//! Reading order: [`wire`] (messages), `channel` (their transport), [`chaosrun_base::family`] (process ancestry), `process` (start of one
//! process), `trees` and `serve` (the supervisor itself), `start` and `client` (the runner's side).

mod channel;
mod client;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod serve;
mod start;
#[cfg(target_os = "linux")]
mod trees;
pub(crate) mod wire;

pub use client::sweep;
pub use client::{OnExit, Spawn, SpawnError, SupervisorClient, TreeExit};
#[cfg(target_os = "linux")]
pub use serve::serve;
pub use start::Supervisor;
pub use wire::Reach;
