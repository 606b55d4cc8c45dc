//! The holder: a small program in a container of its own that owns a node's network namespace, and its runner's side.
//!
//! It is driven over its stdin and stdout, so that any engine will do and nobody needs rights on the engine's host. What it
//! has installed it heals when it is told to, when its stdin ends (the runner died) or at SIGTERM, and exits at once. The
//! guard alone stays: while anything is left in the namespace there must be no way out of it.
//!
//! Reading order: [`frame`] (the wire), [`verbs`] (what is asked and answered), [`streams`] (connections carried over it,
//! with credits), `serve` (the program), [`guard`], [`links`] with `delay`, over `netlink` and `nft` (what it does to its namespace), `probe`
//! (what it measures of it), `names` and `traffic`, [`disk`] (what it takes of the node's disk), [`clock`] (what it says the time
//! is), [`client`] (the runner's side).
//!
//! Nothing here prints, and nothing in its name or its answers says what it is for.

pub mod client;
pub mod clock;
mod delay;
pub mod disk;
pub mod frame;
pub mod guard;
pub mod links;
mod names;
mod netlink;
mod nft;
mod probe;
mod serve;
pub mod streams;
mod traffic;
pub mod verbs;

pub use serve::run;
