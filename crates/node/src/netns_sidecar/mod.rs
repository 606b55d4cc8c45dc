//! Network sidecar: a small program in a separate container that owns a node's network namespace, and the runner's client of it.
//!
//! The runner controls the sidecar over stdin and stdout, so that any engine works and no rights on the engine's host are needed. The
//! sidecar removes all its effects and exits on request, at SIGTERM, or when stdin ends because the runner died. Only the guard stays,
//! since packets must not leave the namespace as long as processes remain in it.
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
