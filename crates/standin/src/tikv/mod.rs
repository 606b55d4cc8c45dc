//! TiKV stand-in (`chaosrun node tikv`): one store.
//!
//! The regions of a store ([`layout`]) are Raft groups over a static set of stores ([`crate::raft`]). Each region is a small key-value map
//! ([`kv`]). Clients use HTTP at any store ([`front`]). Heartbeats inform PD ([`pd`]). The status port shows the same data as TiKV
//! ([`status`], [`metrics`]).

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
