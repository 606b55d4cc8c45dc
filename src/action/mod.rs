//! Typed actions: what a cluster file declares may be done to its system, carried out with proof.
//!
//! A call is read ([`params`]), what it requires is judged by observations made after it came, the steps are carried out
//! ([`step`]), and what they should bring about is awaited in observations made after them ([`perform()`]). Everything is an
//! event, and the answer is for whoever asked: what was done, or who has refused what, and why ([`told`]).

pub mod describe;
pub mod params;
mod perform;
mod step;
mod told;
mod world;

pub use perform::{Call, Desk, Performed, perform};
pub use world::with_nodes;
