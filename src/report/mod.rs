//! What comes of the stream of events: one consumer a file, and each knows nothing but the events.
//!
//! The record is the only other consumer ([`crate::store`]), so whatever is shown live can be shown again by `replay`.

pub mod reporter;
pub mod tally;

mod answered;
mod evidence;
pub mod figures;
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
pub mod story;
pub mod table;
mod timeline;
pub mod transcript;
mod uplift;

#[cfg(test)]
pub(crate) mod gallery;
