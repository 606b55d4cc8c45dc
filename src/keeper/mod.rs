//! Keeps a cluster running outside of trials: a process of its own that owns it until it is told to end.
//!
//! Reading order: [`folder`] (where a kept cluster is found, and whether its keeper lives), [`wire`] (what is said over
//! its socket), [`client`] (who asks), `keep` (the keeper from top to bottom), `desk` and `server` (how it answers),
//! `faults` (what became of those injected by hand), `meter` (what nodes use), `progress` (what is told while it comes up).

pub mod client;
mod desk;
mod faults;
pub mod folder;
mod keep;
mod meter;
mod progress;
mod server;
pub mod wire;

pub use keep::{Failure, Order, Tell, keep};
