//! Output of all commands. There is one module per kind of output.
//!
//! The reporters of a run use only its events, so `replay` can show the same output from the record ([`chaosrun_store`]). The other modules
//! format the results of single commands.

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
