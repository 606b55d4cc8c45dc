//! `chaosrun node tikv`: a store.
//!
//! Its regions ([`layout`]) are Raft groups over a static set of stores ([`crate::standin::raft`]), each a small key-value map
//! ([`kv`]). Clients come in by HTTP at any store ([`front`]); PD hears of it by heartbeats ([`pd`]); the status port shows what
//! TiKV's shows ([`status`], [`metrics`]).

pub mod args;
pub mod disk;
pub mod ident;
pub mod layout;

pub mod kv;
pub mod metrics;
pub mod slow;

pub mod http;
pub mod store;

pub mod front;
pub mod pd;
pub mod status;

mod node;

pub use args::Args;
pub use node::run;
