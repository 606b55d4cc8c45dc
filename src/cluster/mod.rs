//! Clusters: one trait, a backend a folder. `local` = real processes on loopback.

pub mod local;
pub mod mediator;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::sync::broadcast;

use crate::event::{Actor, NodeState};

/// Where everything is, fixed for the whole trial, restarts included.
#[derive(Debug, Clone)]
pub struct Topology {
    pub nodes: Vec<Placed>,
}

impl Topology {
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Placed> {
        self.nodes.iter().find(|node| node.name == name)
    }

    pub fn role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Placed> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// The node that `text` names: by its name, or by any of its addresses, with or without a scheme or a path.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<&Placed> {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bare = bare.split('/').next().unwrap_or(bare);
        self.nodes.iter().find(|node| {
            node.name == text || node.ports.values().any(|port| port.advertised.to_string() == bare || port.listen.to_string() == bare)
        })
    }
}

/// A node with its addresses and directories.
#[derive(Debug, Clone)]
pub struct Placed {
    pub name: String,
    pub role: String,
    pub index: usize,
    pub ports: IndexMap<String, PortAddress>,
    /// The node's own directory (files are rendered here).
    pub dir: PathBuf,
    pub data: PathBuf,
    /// Bytes, when the cluster file limits it.
    pub disk: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAddress {
    /// Where the node binds. The monitor and readiness probes dial this.
    pub listen: SocketAddr,
    /// The only address ever advertised: nodes, clients and agents dial this (on `local` the relay's listener).
    pub advertised: SocketAddr,
}

/// A change of a node, seen at once (pidfd, engine event), not polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeChange {
    pub node: String,
    pub state: NodeState,
    pub by: Option<Actor>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    pub node: String,
    pub state: NodeState,
    pub pid: Option<u32>,
    /// Starts so far.
    pub starts: u32,
    /// How long it has been in this state.
    pub since: Duration,
}

#[derive(Debug, Error)]
pub enum ClusterError {
    #[error("no such node `{0}`")]
    NoSuchNode(String),
    /// As an engine refuses: start of a running node is fine, pause of a stopped one is not.
    #[error("node `{node}` {problem}")]
    Conflict { node: String, problem: String },
    #[error("node `{node}` did not get ready within {within:?}: {last}")]
    NotReady { node: String, within: Duration, last: String },
    #[error("node `{node}` could not be started: {problem}")]
    Start { node: String, problem: String },
    #[error("{0}")]
    Template(String),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("the supervisor is gone: {0}")]
    Supervisor(String),
}

/// A command in a node, or a shell of the agent beside them.
#[derive(Debug, Clone)]
pub struct Exec {
    pub command: Vec<String>,
    pub env: IndexMap<String, String>,
    pub dir: PathBuf,
    pub stdin: Option<Vec<u8>>,
    /// Give the child a piped stdin that stays open (interactive exec).
    pub interactive: bool,
}

/// Kills a command and everything that descends from it, at the call; the future resolves when nothing of it is left.
pub type Killer = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A running command: its own process group, killed whole.
pub struct Running {
    pub pid: u32,
    pub stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Resolves when the process has been reaped; 128 + signal when a signal ended it.
    pub exit: tokio::sync::oneshot::Receiver<i32>,
    /// See [`Running::kill`].
    pub killer: Killer,
}

impl Running {
    /// SIGKILL to the whole group, and to everything that descends from it.
    pub fn kill(&self) {
        drop((self.killer)());
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// A cluster of one trial.
#[async_trait]
pub trait Cluster: Send + Sync {
    fn topology(&self) -> &Topology;

    /// Present states, cheap.
    fn status(&self) -> Vec<NodeStatus>;

    /// Every change from now on.
    fn changes(&self) -> broadcast::Receiver<NodeChange>;

    /// Starts everything, role after role as `after` says, and waits until each node is ready.
    async fn up(&self) -> Result<(), ClusterError>;

    /// Asks the node's readiness probe once, on its real port (a TCP connect to its first port when it declares none):
    /// the time until it answered well, or in words how it did not (`refused the connection`, `gave no answer in 150 ms`).
    async fn answers(&self, node: &str, timeout: Duration) -> Result<Duration, String>;

    async fn start(&self, node: &str, by: Actor) -> Result<(), ClusterError>;
    /// SIGTERM, SIGKILL after `grace`.
    async fn stop(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError>;
    /// Also brings a paused node back to life, as an engine does.
    async fn restart(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError>;
    /// `signal` is a number of signal(7).
    async fn kill(&self, node: &str, signal: i32, by: Actor) -> Result<(), ClusterError>;
    async fn pause(&self, node: &str, by: Actor) -> Result<(), ClusterError>;
    async fn unpause(&self, node: &str, by: Actor) -> Result<(), ClusterError>;

    /// A command in the node's surroundings (its directory, when `exec` names none, and environment). It dies with the node.
    async fn exec(&self, node: &str, exec: Exec) -> Result<Running, ClusterError>;

    /// A command beside the nodes: the agent's shell. Its environment holds PATH, LANG and what `exec` names.
    async fn spawn(&self, exec: Exec) -> Result<Running, ClusterError>;

    /// As [`Cluster::spawn`], for a workload's driver: link faults between the workload and a node concern it.
    async fn spawn_driver(&self, exec: Exec) -> Result<Running, ClusterError> {
        self.spawn(exec).await
    }

    /// Path of the file that holds all the node has printed (stdout and stderr), growing.
    fn log_file(&self, node: &str) -> Option<PathBuf>;

    /// Ends everything, in parallel. Safe to call again.
    async fn down(&self) -> Result<(), ClusterError>;
}
