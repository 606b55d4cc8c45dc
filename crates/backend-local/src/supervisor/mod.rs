//! Supervisor: one small single-threaded process that owns every process of a run.
//!
//! The parent-death signal of Linux is tied to the *thread* that forked. Children of a multi-threaded runner would therefore die when their
//! thread ends, and descendants of these children would survive the runner. The supervisor is started before the runner has a second
//! thread. It spawns every node and every command, and is the subreaper of all their descendants. The end of its socket means that the
//! runner has ended. The supervisor then kills and reaps until no descendant is left.
//!
//! Reading order: [`wire`] (messages), `channel` (transport of messages), [`chaosrun_base::family`] (process ancestry), `process` (start of
//! one process), `trees` and `serve` (the supervisor itself), `start` and `client` (the side of the runner).

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
