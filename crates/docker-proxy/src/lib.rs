//! Docker proxy: the part of the Docker Engine API that an agent may use, implemented over the `Cluster` trait.
//!
//! An agent is not trusted. Its `docker` command line talks only to this server on a unix socket. The server contains only the nodes of
//! this trial, and answers from the `Cluster` trait, so that both backends look the same. No byte of the agent's HTTP reaches a real
//! engine. The server records every call that concerns a node, and refuses requests that are not on the closed list of `route`.

mod archive;
mod audit;
mod container;
mod describe;
mod dispatch;
mod engine;
mod event_history;
mod events;
mod exec;
mod exec_record;
mod filter;
mod frames;
mod lifecycle;
mod line_times;
mod logs;
mod problem;
mod route;
mod server;
mod session;
mod stats;
mod system;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod times;

pub use container::ContainerView;
pub use engine::ProxySettings;
pub use server::{DockerProxy, DockerProxyError, DockerProxyHandle};
