//! Clusters: the trait [`Cluster`] with one implementation per backend. The backend `local` runs processes on loopback addresses, and
//! `docker` runs containers.

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

/// Change of the state of a node. Backends report a change immediately (by a pidfd or an engine event), without polling.
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
    /// Number of starts of the node so far.
    pub starts: u32,
    /// Time since the node entered its current state.
    pub since: Duration,
}

#[derive(Debug, Error)]
pub enum ClusterError {
    #[error("no such node `{0}`")]
    NoSuchNode(String),
    /// Refused order, with the rules of a Docker Engine. For example, a running node may be started, but a stopped node cannot be paused.
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
    /// The engine refused the request or did not answer. The text is the message.
    #[error("the engine: {0}")]
    Engine(String),
}

/// Request to run a command in a node, or the shell of the agent outside the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub env: IndexMap<String, String>,
    pub dir: PathBuf,
    pub stdin: Option<Vec<u8>>,
    /// True if the process gets a piped stdin that stays open (interactive exec).
    pub interactive: bool,
    /// Size of the pseudo-terminal of the process. All output on a terminal arrives on stdout. `None` means no terminal.
    pub terminal: Option<Terminal>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    pub rows: u16,
    pub columns: u16,
}

/// Function that changes the size of the terminal of a command.
pub type Resizer = Box<dyn Fn(Terminal) -> BoxFuture<'static, ()> + Send + Sync>;

/// Current resource usage of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeUsage {
    /// CPU time of all processes of the node since they started.
    pub cpu: Duration,
    /// Memory that the node uses, in bytes.
    pub memory: u64,
    pub memory_limit: Option<u64>,
    pub processes: u32,
    /// Numbers of bytes received and sent since the node was created; `None` if the backend cannot measure them.
    pub network: Option<(u64, u64)>,
}

/// Process of a node, as `docker top` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    pub pid: u32,
    pub parent: u32,
    pub user: String,
    /// CPU time of the process so far.
    pub cpu: Duration,
    pub elapsed: Duration,
    pub command: String,
}

/// Specification of the workspace of an agent.
#[derive(Debug, Clone, Default)]
pub struct WorkspaceSpec {
    /// Path of the socket, on this machine, on which the docker proxy listens.
    pub engine: PathBuf,
    /// True if the workspace must be a sandbox. If false, the backend decides.
    pub sandbox: bool,
    /// Services of the runner that the agent may use in addition to the nodes.
    pub services: Vec<Service>,
    /// Read-only files for the agent: content by path below [`Workspace::files`].
    pub files: IndexMap<String, String>,
}

/// Service that the runner offers to an agent at an address on the loopback of the agent.
#[derive(Clone)]
pub struct Service {
    pub address: SocketAddr,
    /// Function that serves one connection until it ends.
    pub serve: Arc<dyn Fn(tokio::net::UnixStream) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Workspace of an agent: the data with which the shell of the agent is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Command of the shell host, for [`Cluster::spawn`]: `node seat` of this program (`crates/node/src/shell_host/`). The shell host runs
    /// the shell.
    pub shell_host: ExecRequest,
    /// True if the agent can reach only the trial.
    pub sandbox: bool,
    /// Path of this program, as the shell of the agent sees it.
    pub program: PathBuf,
    /// Path of the folder with the provided files, as the shell of the agent sees it.
    pub files: PathBuf,
}

/// Function that kills a command and all its descendants immediately. The returned future resolves when no process is left.
pub type Killer = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Running command with its own process group, which is killed as a whole.
pub struct Running {
    pub pid: u32,
    pub stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Channel for the exit code, sent when the process has been reaped. The code is 128 plus the signal number if a signal ended the
    /// process.
    pub exit: tokio::sync::oneshot::Receiver<i32>,
    /// Function that kills the command; called by [`Running::kill`].
    pub killer: Killer,
    /// Function that changes the size of the terminal; `None` without a terminal.
    pub resize: Option<Resizer>,
}

impl Running {
    /// Sends SIGKILL to the whole process group and to all descendants of the command.
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

    /// Returns the current state of every node. Cheap.
    fn status(&self) -> Vec<NodeStatus>;

    /// Subscribes to all future state changes of nodes.
    fn changes(&self) -> broadcast::Receiver<NodeChange>;

    /// Starts all nodes, role after role in the order that `after` declares, and waits until each node is ready.
    async fn up(&self) -> Result<(), ClusterError>;

    /// Sends one readiness probe to the real port of the node. A node without a declared probe gets a TCP connect to its first port.
    /// Returns the time until a good answer, or a description of the failure (`refused the connection`, `gave no answer in 150 ms`).
    async fn answers(&self, node: &str, timeout: Duration) -> Result<Duration, String>;

    async fn start(&self, node: &str, by: Actor) -> Result<(), ClusterError>;
    /// Sends SIGTERM to the node, and SIGKILL if the node still runs after `grace`.
    async fn stop(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError>;
    /// Restarts a node. A paused node is resumed first, as in a Docker Engine.
    async fn restart(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError>;
    /// Sends a signal to the node. `signal` is a signal number of signal(7).
    async fn kill(&self, node: &str, signal: i32, by: Actor) -> Result<(), ClusterError>;
    async fn pause(&self, node: &str, by: Actor) -> Result<(), ClusterError>;
    async fn unpause(&self, node: &str, by: Actor) -> Result<(), ClusterError>;

    /// Runs a command in the environment of the node, and in its directory unless `exec` names another directory. The command dies with the
    /// node.
    async fn exec(&self, node: &str, exec: ExecRequest) -> Result<Running, ClusterError>;

    /// Opens the workspace of an agent. Must be called before the first [`Cluster::spawn`].
    async fn open_workspace(&self, workspace_spec: &WorkspaceSpec) -> Result<Workspace, ClusterError> {
        let what = format!("no agent can work with `{}`", workspace_spec.engine.display());
        Err(ClusterError::Io { what, source: std::io::ErrorKind::Unsupported.into() })
    }

    /// Ends all processes that an agent has started, including processes that the killers of the commands miss. Returns when no process is
    /// left.
    async fn close_workspace(&self) {}

    /// Returns the current resource usage of the node.
    async fn usage(&self, node: &str) -> Result<NodeUsage, ClusterError> {
        Err(ClusterError::Conflict { node: node.into(), problem: "cannot be measured here".into() })
    }

    /// Returns the processes of the node, oldest first.
    async fn processes(&self, node: &str) -> Result<Vec<ProcessInfo>, ClusterError> {
        Err(ClusterError::Conflict { node: node.into(), problem: "cannot be looked into here".into() })
    }

    /// Runs a command outside the nodes, such as the shell of the agent. The environment contains PATH, LANG and the variables of `exec`.
    async fn spawn(&self, exec: ExecRequest) -> Result<Running, ClusterError>;

    /// Runs the driver program of a workload like [`Cluster::spawn`]. In contrast to `spawn`, link faults between the workload and a node
    /// affect the driver.
    async fn spawn_driver(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        self.spawn(exec).await
    }

    /// Returns the path of the file to which all output of the node (stdout and stderr) is appended.
    fn log_file(&self, node: &str) -> Option<PathBuf>;

    /// Ends all nodes and commands in parallel. May be called repeatedly.
    async fn down(&self) -> Result<(), ClusterError>;
}
