//! Disk layer under a node's data: a file system that passes all operations on to a folder. The layer can delay operations, make them fail,
//! or lose unsynced data.
//!
//! The layer runs as a separate process (`chaosrun node disk`, hidden) for each node whose disk a fault may affect.
//!
//! Reading order: [`wire`] (requests and replies), `faults` (effect on operations), `undo` (unsynced changes), `backing` (the files behind
//! the layer), `memory` (storage of limited size), `layer` (the file system), `serve` (the process), [`mounts`] (removal of mounts).
//!
//! A loss undoes:
//! * bytes written and lengths changed since the file was last synced;
//! * new files, if neither the file nor its folder was synced.
//!
//! A loss does not undo:
//! * renames, removals and new folders;
//! * data written through a synchronous descriptor;
//! * data that a kernel would have written by itself, because of its age or amount.
//!
//! `sync(2)` has no effect, since a FUSE file system is not notified of it.

mod backing;
mod faults;
mod layer;
mod memory;
pub mod mounts;
mod serve;
mod undo;
pub mod wire;

pub use serve::{Args, run};
