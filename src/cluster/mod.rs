//! Clusters: one trait, a backend a folder. `local` = real processes on loopback, `docker` = containers.

pub mod docker;
pub mod doctor;
pub mod local;
pub mod mediator;
pub mod ready;
pub mod render;
pub mod tail;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::sync::broadcast;

use crate::event::{Actor, NodeState};
pub use crate::scenario::model::CutMode;

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
#[derive(Debug, Clone, Default)]
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

/// One direction of a link: what `from` sends to `to`, whoever dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cut {
    pub from: String,
    pub to: String,
    pub mode: CutMode,
}

/// A cut that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Severed {
    pub cut: Cut,
    /// How many packets it has kept from passing, where the backend sees packets.
    pub packets: Option<u64>,
}

/// Where an agent works: what its shell needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The shell's program.
    pub shell: String,
    /// All that a command inherits: nothing of the runner's own.
    pub env: IndexMap<String, String>,
    /// The agent's own folder.
    pub dir: PathBuf,
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

    /// Makes the place where an agent works, with the mediated engine that listens at `engine` (a unix socket of this
    /// machine) within its reach. To be called before the first [`Cluster::spawn`].
    async fn seat(&self, engine: &Path) -> Result<Seat, ClusterError> {
        let what = format!("no agent can work with `{}`", engine.display());
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

    /// Puts exactly these cuts in force, in place of those before; none = everything is mended.
    async fn cut(&self, cuts: &[Cut]) -> Result<(), ClusterError> {
        match cuts.first() {
            None => Ok(()),
            Some(cut) => Err(ClusterError::Conflict { node: cut.to.clone(), problem: "has links that cannot be cut here".into() }),
        }
    }

    /// The cuts in force, read back.
    async fn severed(&self) -> Result<Vec<Severed>, ClusterError> {
        Ok(Vec::new())
    }

    /// Dials the first port of `to` as `from` would: the time until it was connected, or in words how it was not.
    async fn reaches(&self, from: &str, to: &str, timeout: Duration) -> Result<Duration, String> {
        Err(format!("{from} cannot be made to dial {to} within {timeout:?} here"))
    }

    /// Path of the file that holds all the node has printed (stdout and stderr), growing.
    fn log_file(&self, node: &str) -> Option<PathBuf>;

    /// Ends everything, in parallel. Safe to call again.
    async fn down(&self) -> Result<(), ClusterError>;
}
