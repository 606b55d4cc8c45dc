//! The layer under a node's data: a file system of our own that passes everything on to a folder, and can be slow, fail, or
//! forget what was never synced.
//!
//! A process of its own, for each node whose disk a fault may harm (`chaosrun node disk`, hidden). Reading order: [`wire`] (what
//! it is told and says), `faults` (what happens to operations), `undo` (what was written and not synced), `backing` (the
//! files behind it), `memory` (where they are when their size is limited), `layer` (the file system), `serve` (the process),
//! [`mounts`] (nothing stays mounted).
//!
//! What a loss takes back: bytes written, and lengths changed, since the file was last synced; files made that were never
//! synced, nor their folder. Not taken back: renames, removals and new folders; what was written through a synchronous
//! descriptor; and what has waited for so long, or is so much, that a kernel would have written it by itself. `sync(2)` is not
//! seen: a file system of this kind is not told of it.

mod backing;
mod faults;
mod layer;
mod memory;
pub mod mounts;
mod serve;
mod undo;
pub mod wire;

pub use serve::{Args, run};
