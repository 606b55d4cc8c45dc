//! `chaosrun node pd`: the placement driver.
//!
//! A member has a copy of the durable state ([`durable`], replicated by [`consensus`]). While it leads ([`leadership`]), it also has the
//! scheduler state of the cluster ([`cluster`], fed by heartbeats). PD's HTTP API ([`http`]) is in front of both.

pub mod config;
pub mod identity;
pub mod text;
pub mod timing;

pub mod durable;
pub mod operators;
pub mod regions;
pub mod stores;

pub mod cluster;
pub mod consensus;
pub mod leadership;
pub mod proposal_queue;

pub mod http;
mod member;

pub use config::Args;
pub use member::run;
