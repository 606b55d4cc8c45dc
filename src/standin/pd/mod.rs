//! `chaosrun node pd`: the placement driver.
//!
//! A member is a copy of the durable state ([`durable`], replicated by [`consensus`]), and, while it leads
//! ([`leadership`]), the mind of the cluster ([`cluster`], fed by heartbeats), behind PD's HTTP API ([`http`]).

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
pub mod office;

pub mod http;
mod member;

pub use config::Args;
pub use member::run;
