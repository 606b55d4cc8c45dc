//! Consumers of the event stream, one per file. Each consumer uses only the events.
//!
//! The record is the only other consumer ([`chaosrun_store`]), so `replay` can reproduce all live output.

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
