//! Faults: when they come (timeline, pure), what each does (a file a fault: inject, evidence, heal), and the driver
//! that runs the timeline of a trial.
//!
//! A fault is written to the record before it is injected, proven to be installed and felt after, and proven gone
//! once it was removed.

pub mod catalogue;
pub mod timeline;

mod exec;
mod fault;
mod network_partition;
mod node_kill;
mod node_pause;
mod node_stop;
mod pairs;

pub mod driver;

pub use network_partition::Links;
