//! One small single-threaded process that owns every process of a run.
//!
//! The parent-death signal of Linux is tied to the *thread* that forked, so children forked by a multi-threaded
//! runner die at odd moments and their children never do. Hence this process: it is started before the runner has a
//! second thread, spawns every node and every command, is the subreaper of all their descendants, and takes the end of
//! its socket as "the runner is gone": it then kills and reaps until no descendant is left.
//!
//! Reading order: [`wire`] (what is said), `channel` (how it is carried), `family` (who descends from whom),
//! `process` (how one process is started), `trees` and `serve` (the supervisor itself), `start` and `client` (the
//! runner's side).

mod channel;
mod client;
#[cfg(target_os = "linux")]
pub(crate) mod family;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod serve;
mod start;
#[cfg(target_os = "linux")]
mod trees;
pub(crate) mod wire;

pub(crate) use client::sweep;
pub use client::{Ended, OnExit, Spawn, SpawnError, SupervisorClient};
#[cfg(target_os = "linux")]
pub use serve::serve;
pub use start::Supervisor;
pub use wire::Reach;

/// The environment variable by which a process that left its parent and its session is still told apart: systemd's
/// name for the same purpose, so it says nothing about us.
pub(crate) const MARKER: &str = "INVOCATION_ID";
