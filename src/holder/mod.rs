//! The holder: a small program in a container of its own that owns a node's network namespace, and its runner's side.
//!
//! It is driven over its stdin and stdout, so that any engine will do and nobody needs rights on the engine's host. What it
//! has installed it heals when it is told to, when its stdin ends (the runner died) or at SIGTERM, and exits at once. The
//! guard alone stays: while anything is left in the namespace there must be no way out of it.
//!
//! Reading order: [`frame`] (the wire), [`verbs`] (what is asked and answered), [`streams`] (connections carried over it,
//! with credits), `serve` (the program), [`guard`], [`links`] and `nft` (what it does to its namespace), `names` and
//! `traffic`, [`client`] (the runner's side).
//!
//! Nothing here prints, and nothing in its name or its answers says what it is for.

pub mod client;
pub mod frame;
pub mod guard;
pub mod links;
mod names;
mod nft;
mod serve;
pub mod streams;
mod traffic;
pub mod verbs;

pub use serve::run;
