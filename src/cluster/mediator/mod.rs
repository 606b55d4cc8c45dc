//! The mediated engine: the part of the Docker Engine API that an agent may use, over the `Cluster` trait.
//!
//! An agent is not trusted. Its `docker` command line talks to this server on a unix socket and to nothing else: the
//! server knows this trial's nodes only, answers from the `Cluster` trait (so both backends look the same), passes no
//! byte of the agent's HTTP on to a real engine, and writes down every call that concerns a node. What is not on the
//! closed list of `route` is refused.

mod archive;
mod audit;
mod describe;
mod engine;
mod events;
mod exec;
mod filter;
mod frames;
mod lifecycle;
mod logs;
mod problem;
mod route;
mod server;
mod session;
mod stats;
mod system;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod times;
pub(crate) mod words;

pub use engine::{Face, Settings};
pub use server::{Mediator, MediatorError, MediatorHandle};
