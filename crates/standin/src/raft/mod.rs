//! Consensus host: many Raft groups in one process, with one log on disk.
//!
//! One thread owns all groups. It takes queued inputs, steps the groups, and writes all new entries of the groups in one frame with one
//! fdatasync. Only after that does the thread send messages that promise persistence, apply committed entries and answer requests. An
//! answered proposal is on the disks of a majority. Membership is static. See [`Host::start`].

mod checkpoint;
mod config;
mod group;
mod handle;
mod host;
mod link;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod wal;
mod worker;

pub(crate) use config::LOG_LIMIT;
pub(crate) use config::Unobserved;
pub use config::{GroupConfig, HostConfig, HostObserver, RaftTiming, StateMachine};
pub use handle::{GroupStatus, Handle, PeerStatus, ProposeError, RaftRole, ReadError, RoleChange};
pub use host::{Host, StartError};
