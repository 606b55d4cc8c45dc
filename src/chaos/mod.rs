//! Faults: when they come (timeline, pure), what each does (a file a fault: inject, evidence, heal), and the driver
//! that runs the timeline of a trial.
//!
//! A fault is written to the record before it is injected, proven to be installed and felt after, and proven gone
//! once it was removed. Faults of one family share how they show themselves: the `mod.rs` of its folder.
//!
//! Reading order: [`catalogue`], [`timeline`], `fault` (what each can do), `states` (several faults on one thing), a family,
//! `witness` (evidence), [`driver`], [`hand`] (faults without a trial).

pub mod catalogue;
pub mod timeline;

mod clock;
mod configuration;
mod data;
mod disk;
mod fault;
mod network;
mod process;
mod resources;
mod states;
mod witness;

pub mod driver;
pub mod hand;

pub use fault::Numbers;
pub use states::States;
