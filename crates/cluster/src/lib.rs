//! Clusters: one trait, with one implementation per backend. `local` = real processes on loopback, `docker` = containers.

pub mod backend;
pub mod delay_sampler;
pub mod fault_control;

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

use chaosrun_event::{Actor, NodeState};
pub use chaosrun_expr::topology::{PlacedNode, PortAddress, Topology};
pub use fault_control::{CutMode, Distribution, FaultControl, LinkCounters, LinkPath, LinkState, Pinging, Pings, Shape};

/// Change of a node's state. Backends report it at once (pidfd, engine event), without polling.
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
    /// Number of starts so far.
    pub starts: u32,
    /// Time since the node entered this state.
    pub since: Duration,
}

#[derive(Debug, Error)]
pub enum ClusterError {
    #[error("no such node `{0}`")]
    NoSuchNode(String),
    /// Refusal like that of a Docker Engine: starting a running node is permitted, pausing a stopped one is not.
    #[error("node `{node}` {problem}")]
    Conflict { node: String, problem: String },
    #[error("node `{node}` was not ready within {within:?}: {last}")]
    NotReady { node: String, within: Duration, last: String },
    #[error("node `{node}` could not be started: {problem}")]
    Start { node: String, problem: String },
    #[error("{0}")]
    Template(String),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("the supervisor is gone: {0}")]
    Supervisor(String),
    /// The engine refused the request, or does not answer.
    #[error("the engine: {0}")]
    Engine(String),
}

/// Command in a node, or shell of the agent outside the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub env: IndexMap<String, String>,
    pub dir: PathBuf,
    pub stdin: Option<Vec<u8>>,
    /// Gives the process a piped stdin that stays open (interactive exec).
    pub interactive: bool,
    /// Gives the process a pseudo-terminal of this size: all output is then sent on stdout.
    pub terminal: Option<Terminal>,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    pub rows: u16,
    pub columns: u16,
}

/// Function that changes the size of a command's terminal.
pub type Resizer = Box<dyn Fn(Terminal) -> BoxFuture<'static, ()> + Send + Sync>;

/// Present resource usage of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeUsage {
    /// Processor time of all its processes since they started.
    pub cpu: Duration,
    /// Memory in use, in bytes.
    pub memory: u64,
    pub memory_limit: Option<u64>,
    pub processes: u32,
    /// Bytes received and sent since the node was created, if the backend can measure them.
    pub network: Option<(u64, u64)>,
}

/// Process of a node, for `top`.
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

/// Specification of an agent's workspace.
#[derive(Debug, Clone, Default)]
pub struct WorkspaceSpec {
    /// Socket on which the docker proxy listens, on this machine.
    pub engine: PathBuf,
    /// True if the workspace must be a sandbox. If false, it may still be one.
    pub sandbox: bool,
    /// Services beside the nodes.
    pub services: Vec<Service>,
    /// Read-only files, by their paths below [`Workspace::files`].
    pub files: IndexMap<String, String>,
}

/// Service that the runner offers to an agent at an address of the agent's own loopback.
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

/// Workspace of an agent: the information that its shell needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Process that hosts the shell, for [`Cluster::spawn`]: `node seat` of this program (`crates/node/src/shell_host/`).
    pub shell_host: ExecRequest,
    /// True if the agent can reach nothing but the trial.
    pub sandbox: bool,
    /// Path of this program, as the shell sees it.
    pub program: PathBuf,
    /// Folder of the provided files, as the shell sees it.
    pub files: PathBuf,
}

/// Function that kills a command and all its descendants at the call; the future resolves when no process is left.
pub type Killer = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Running command: a process group of its own, killed as a whole.
pub struct Running {
    pub pid: u32,
    pub stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Exit code, sent when the process has been reaped. The code is 128 + signal if a signal ended the process.
    pub exit: tokio::sync::oneshot::Receiver<i32>,
    /// See [`Running::kill`].
    pub killer: Killer,
    /// Present only with a terminal.
    pub resize: Option<Resizer>,
}

impl Running {
    /// Sends SIGKILL to the whole group and to all its descendants.
    pub fn kill(&self) {
        drop((self.killer)());
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Cluster of one trial.
#[async_trait]
pub trait Cluster: FaultControl {
    fn topology(&self) -> &Topology;

    /// Returns the present state of every node. Cheap.
    fn status(&self) -> Vec<NodeStatus>;

    /// Subscribes to every change from now on.
    fn changes(&self) -> broadcast::Receiver<NodeChange>;

    /// Starts all nodes, role after role in the order given by `after`, and waits until each node is ready.
    async fn up(&self) -> Result<(), ClusterError>;

    /// Sends one readiness probe to the node, on its real port (a TCP connect to its first port if it declares none). Returns the time
    /// until a good answer, or the failure in words (`refused the connection`, `gave no answer in 150 ms`).
    async fn answers(&self, node: &str, timeout: Duration) -> Result<Duration, String>;

    async fn start(&self, node: &str, by: Actor) -> Result<(), ClusterError>;
    /// Sends SIGTERM, and SIGKILL after `grace`.
    async fn stop(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError>;
    /// Restarts a node. A paused node is resumed, like a Docker Engine does.
    async fn restart(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError>;
    /// Sends a signal; `signal` is a number of signal(7).
    async fn kill(&self, node: &str, signal: i32, by: Actor) -> Result<(), ClusterError>;
    async fn pause(&self, node: &str, by: Actor) -> Result<(), ClusterError>;
    async fn unpause(&self, node: &str, by: Actor) -> Result<(), ClusterError>;

    /// Runs a command in the node's directory (unless `exec` names another) and environment. The command dies with the node.
    async fn exec(&self, node: &str, exec: ExecRequest) -> Result<Running, ClusterError>;

    /// Opens the workspace of an agent. Must be called before the first [`Cluster::spawn`].
    async fn open_workspace(&self, workspace_spec: &WorkspaceSpec) -> Result<Workspace, ClusterError> {
        let what = format!("no agent can work with `{}`", workspace_spec.engine.display());
        Err(ClusterError::Io { what, source: std::io::ErrorKind::Unsupported.into() })
    }

    /// Ends all processes that an agent has started, including those that the killers of its commands do not reach. Returns when no process
    /// is left.
    async fn close_workspace(&self) {}

    /// Returns the node's present resource usage.
    async fn usage(&self, node: &str) -> Result<NodeUsage, ClusterError> {
        Err(ClusterError::Conflict { node: node.into(), problem: "cannot be measured here".into() })
    }

    /// Returns the node's processes, oldest first.
    async fn processes(&self, node: &str) -> Result<Vec<ProcessInfo>, ClusterError> {
        Err(ClusterError::Conflict { node: node.into(), problem: "cannot be looked into here".into() })
    }

    /// Runs a command outside the nodes: the agent's shell. Its environment contains PATH, LANG and the variables of `exec`.
    async fn spawn(&self, exec: ExecRequest) -> Result<Running, ClusterError>;

    /// Runs a workload's driver like [`Cluster::spawn`], except that link faults between the workload and a node affect it.
    async fn spawn_driver(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        self.spawn(exec).await
    }

    /// Returns the path of the growing file with all output of the node (stdout and stderr).
    fn log_file(&self, node: &str) -> Option<PathBuf>;

    /// Ends all nodes and commands, in parallel. Safe to call again.
    async fn down(&self) -> Result<(), ClusterError>;
}
