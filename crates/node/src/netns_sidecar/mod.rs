//! Network sidecar: a small program in a separate container that owns a node's network namespace, and the runner's client of it.
//!
//! It is driven over stdin and stdout, so that any engine works and no rights on the engine's host are needed. When it is told to, when its
//! stdin ends (the runner died) or at SIGTERM, it heals everything that it has installed and exits. Only the guard stays: as long as
//! processes remain in the namespace there must be no way out.
//!
//! Reading order: [`frame`] (the wire), [`verbs`] (requests and answers), [`streams`] (connections over the wire, with credits), `serve`
//! (the program), [`guard`], [`links`] with `delay`, over `netlink` and `nft` (effects on the namespace), `probe` (measurements), `names`
//! and `traffic`, [`disk`] (space taken from the node's disk), [`clock`] (the node's clocks), [`client`] (the runner's side).
//!
//! The program prints no logs, and neither its name nor its answers reveal its purpose.

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
