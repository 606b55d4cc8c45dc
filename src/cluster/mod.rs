//! Clusters: one trait, a backend a folder. `local` = real processes on loopback, `docker` = containers.

pub mod docker;
pub mod doctor;
pub mod harm;
pub mod local;
pub mod mediator;
pub mod ready;
pub mod render;
pub mod scatter;
pub mod tail;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::sync::broadcast;

use crate::event::{Actor, NodeState};
pub use harm::{CutMode, Distribution, Harm, LinkCounters, LinkPath, LinkState, Pinging, Pings, Shape};

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
        self.nodes
            .iter()
            .find(|node| node.name == text || node.ports.values().any(|port| port.all().any(|address| address.to_string() == bare)))
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
    /// Where the node binds.
    pub listen: SocketAddr,
    /// The only address ever advertised: nodes, clients and agents dial this (on `local` the relay's listener).
    pub advertised: SocketAddr,
    /// Where the runner reaches the node, when it can dial neither of the others: a forwarder of ours.
    pub reach: Option<SocketAddr>,
}

impl PortAddress {
    /// Where the monitor and readiness probes dial.
    #[must_use]
    pub fn probed(&self) -> SocketAddr {
        self.reach.unwrap_or(self.listen)
    }

    /// Where clients beside the runner dial.
    #[must_use]
    pub fn used(&self) -> SocketAddr {
        self.reach.unwrap_or(self.advertised)
    }

    fn all(&self) -> impl Iterator<Item = SocketAddr> {
        [self.advertised, self.listen].into_iter().chain(self.reach)
    }
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
    /// The engine refused, or does not answer.
    #[error("the engine: {0}")]
    Engine(String),
}

/// A command in a node, or a shell of the agent beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    pub command: Vec<String>,
    pub env: IndexMap<String, String>,
    pub dir: PathBuf,
    pub stdin: Option<Vec<u8>>,
    /// Give the child a piped stdin that stays open (interactive exec).
    pub interactive: bool,
    /// Give it a pseudo-terminal of this size: all output comes on stdout then.
    pub terminal: Option<Terminal>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    pub rows: u16,
    pub columns: u16,
}

/// Changes the size of a command's terminal.
pub type Resizer = Box<dyn Fn(Terminal) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a node uses now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its processes since they started.
    pub cpu: Duration,
    /// Bytes of memory, and how many it may have at most.
    pub memory: u64,
    pub memory_limit: Option<u64>,
    pub processes: u32,
    /// Bytes received and sent since it was created, where the backend can tell.
    pub network: Option<(u64, u64)>,
}

/// A process of a node, for `top`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    pub pid: u32,
    pub parent: u32,
    pub user: String,
    /// Processor time so far.
    pub cpu: Duration,
    pub elapsed: Duration,
    pub command: String,
}

/// What the place of an agent shall have.
#[derive(Debug, Clone, Default)]
pub struct Seating {
    /// The socket on which the mediated engine listens, on this machine.
    pub engine: PathBuf,
    /// Whether it must be a sandbox. Where it need not be one it may be one all the same.
    pub sandbox: bool,
    /// What is served there, beside the nodes.
    pub services: Vec<Service>,
    /// Files to be read, by their paths below [`Seat::files`].
    pub files: IndexMap<String, String>,
}

/// What the runner serves to an agent at an address of the agent's own loopback.
#[derive(Clone)]
pub struct Service {
    pub address: SocketAddr,
    /// Serves one connection to its end.
    pub serve: Arc<dyn Fn(tokio::net::UnixStream) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Where an agent works: what its shell needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// What keeps the shell, as [`Cluster::spawn`] takes it: `node seat` of our own program, see [`crate::station`].
    pub station: Exec,
    /// Whether nothing but the trial is within its reach.
    pub sandbox: bool,
    /// Where our own program is, as the shell sees it.
    pub program: PathBuf,
    /// The folder of what was brought in, as the shell sees it.
    pub files: PathBuf,
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
    /// Only with a terminal.
    pub resize: Option<Resizer>,
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
pub trait Cluster: Harm {
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

    /// Makes the place where an agent works. To be called before the first [`Cluster::spawn`].
    async fn seat(&self, seating: &Seating) -> Result<Seat, ClusterError> {
        let what = format!("no agent can work with `{}`", seating.engine.display());
        Err(ClusterError::Io { what, source: std::io::ErrorKind::Unsupported.into() })
    }

    /// Ends everything an agent has started and its commands' killers may not reach. Returns when nothing is left.
    async fn unseat(&self) {}

    /// What the node uses now.
    async fn usage(&self, node: &str) -> Result<Usage, ClusterError> {
        Err(ClusterError::Conflict { node: node.into(), problem: "cannot be measured here".into() })
    }

    /// The node's processes, oldest first.
    async fn processes(&self, node: &str) -> Result<Vec<ProcessInfo>, ClusterError> {
        Err(ClusterError::Conflict { node: node.into(), problem: "cannot be looked into here".into() })
    }

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
