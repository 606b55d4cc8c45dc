//! The consensus host: many Raft groups in one process over one log on disk.
//!
//! One thread owns every group. It takes what is queued, steps the groups, writes all their new entries in one frame with one
//! fdatasync, and only then sends what promises persistence, applies what is committed and answers. A proposal that was
//! answered is on the disks of a majority. Membership is static. See [`Host::start`].

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

pub use config::{GroupConfig, HostConfig, LOG_LIMIT, Machine, Observer, Timing, Unobserved};
pub use handle::{GroupStatus, Handle, PeerStatus, ProposeError, ReadError, Role, RoleChange};
pub use host::{Host, StartError};
