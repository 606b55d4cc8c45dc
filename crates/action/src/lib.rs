//! Typed actions: operations that a cluster file declares for its system. Their effect is verified.
//!
//! The parameters of a call are parsed ([`chaosrun_scenario::params`]), and its preconditions are checked by observations made after the
//! call. The steps then run (`step`), and the expected effect is awaited in observations made after them ([`perform()`]). Each stage emits
//! events. The result text states the performed steps, or which component refused a step and why (`result`).

pub mod describe;
mod perform;
mod result;
mod step;
mod world;

pub use perform::{ActionCall, Performed, perform};
pub use world::{ActionContext, with_nodes};
