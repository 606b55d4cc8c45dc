//! Reporters, which convert the event stream to output. There is one module per kind of output. Each reporter uses only the events.
//!
//! The only other consumer of the event stream is the record ([`chaosrun_store`]). Therefore, `replay` can show the same output from the
//! record.

mod answered;
mod evidence;
mod flow;
mod layout;

pub mod bar;
pub mod doctor;
pub mod fault;
pub mod human;
pub mod lines;
mod progress;
pub mod summary;

pub mod junit;
pub mod ndjson;

pub mod atif;
pub mod cluster;
pub mod comparison;
pub mod gate;
pub mod judge;
pub mod rescore;
pub mod show;
pub mod table;
pub mod transcript;
mod uplift;
