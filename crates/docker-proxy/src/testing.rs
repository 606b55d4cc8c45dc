//! Cluster of real processes for the tests of this crate and of the agent. It has no readiness probes, no relays and no supervisor.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::{broadcast, oneshot};

use chaosrun_cluster::{
    Cluster, ClusterError, ExecRequest, FaultControl, Killer, NodeChange, NodeStatus, PlacedNode, PortAddress, Running, Topology,
};
use chaosrun_event::{Actor, NodeState};

struct Node {
    state: NodeState,
    pid: Option<u32>,
    starts: u32,
    since: Instant,
}

/// Test cluster whose nodes are processes `sh -c SCRIPT`, each in its own process group.
pub struct Processes {
    topology: Topology,
    script: String,
    nodes: Mutex<BTreeMap<String, Node>>,
    changes: broadcast::Sender<NodeChange>,
    own: Mutex<std::sync::Weak<Self>>,
}

impl Processes {
    pub fn new(dir: &Path, names: &[&str], script: &str) -> Arc<Self> {
        let node = |(index, name): (usize, &&str)| PlacedNode {
            name: (*name).into(),
            role: name.trim_end_matches(|c: char| c.is_ascii_digit()).into(),
            index: index + 1,
            ports: [("client".to_owned(), port(20_000 + u16::try_from(index).expect("few nodes")))].into_iter().collect(),
            dir: dir.to_owned(),
            data: dir.join(name),
            disk: None,
        };
        let topology = Topology { nodes: names.iter().enumerate().map(node).collect() };
        let created = || Node { state: NodeState::Created, pid: None, starts: 0, since: Instant::now() };
        let nodes = names.iter().map(|name| ((*name).to_owned(), created())).collect();
        let (changes, _) = broadcast::channel(256);
        let cluster = Arc::new(Self { topology, script: script.into(), nodes: Mutex::new(nodes), changes, own: Mutex::default() });
        *cluster.own.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&cluster);
        cluster
    }

    fn turn(&self, name: &str, state: NodeState, pid: Option<u32>, by: Option<Actor>) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.get_mut(name).expect("a known node");
        node.starts += u32::from(pid.is_some() && pid != node.pid);
        (node.pid, node.since, node.state) = (pid, Instant::now(), state.clone());
        drop(nodes);
        // Sending fails if no receiver exists.
        let _ = self.changes.send(NodeChange { node: name.into(), state, by });
    }

    fn signal(&self, name: &str, signal: Signal) -> Result<u32, ClusterError> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.get(name).ok_or_else(|| ClusterError::NoSuchNode(name.into()))?;
        let pid = node.pid.ok_or_else(|| ClusterError::Conflict { node: name.into(), problem: "is not running".into() })?;
        killpg(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).map_err(|errno| failed("kill", errno.into()))?;
        Ok(pid)
    }

    async fn ended(&self, name: &str) {
        let mut changes = self.changes.subscribe();
        while self.status().iter().any(|status| status.node == name && status.pid.is_some()) {
            // A missed change only leads to another check.
            let _ = changes.recv().await;
        }
    }

    /// Starts a command. If `clear` is true, the environment of the command contains only the requested variables.
    fn run(exec: &ExecRequest, clear: bool) -> Result<Running, ClusterError> {
        let mut command = Command::new(&exec.command[0]);
        if clear {
            command.env_clear();
        }
        let piped = exec.stdin.is_some() || exec.interactive;
        command.args(&exec.command[1..]).envs(&exec.env).current_dir(&exec.dir).process_group(0).kill_on_drop(true);
        command.stdin(if piped { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&exec.command[0], error))?;
        let pid = child.id().expect("just started");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as Box<dyn tokio::io::AsyncWrite + Send + Unpin>);
        let (tx, exit) = oneshot::channel();
        chaosrun_base::task::spawn(async move {
            let status = child.wait().await.expect("waits");
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            // Sending fails if no receiver exists.
            let _ = tx.send(code);
        });
        let group = Pid::from_raw(i32::try_from(pid).expect("a pid"));
        let killer: Killer = Box::new(move || {
            // The process may have ended.
            let _ = killpg(group, Signal::SIGKILL);
            Box::pin(async move {
                // Members of the process group that were not reaped yet are still found.
                while killpg(group, None).is_ok() {
                    tokio::task::yield_now().await;
                }
            })
        });
        Ok(Running { pid, stdin, stdout: Box::new(stdout), stderr: Box::new(stderr), exit, killer, resize: None })
    }
}

fn port(number: u16) -> PortAddress {
    let address = ([127, 0, 0, 1], number).into();
    PortAddress { listen: address, advertised: address, reach: None }
}

fn failed(what: &str, source: io::Error) -> ClusterError {
    ClusterError::Io { what: what.into(), source }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for node in self.nodes.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if let Some(pid) = node.pid {
                // The process may have ended.
                let _ = killpg(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGKILL);
            }
        }
    }
}

#[async_trait]
impl FaultControl for Processes {
    async fn read_file(&self, node: &str, name: &str) -> Result<Vec<u8>, ClusterError> {
        let placed = self.topology.node(node).ok_or_else(|| ClusterError::NoSuchNode(node.into()))?;
        std::fs::read(placed.dir.join(name)).map_err(|error| failed("read", error))
    }

    async fn write_file(&self, node: &str, name: &str, content: &[u8]) -> Result<(), ClusterError> {
        let placed = self.topology.node(node).ok_or_else(|| ClusterError::NoSuchNode(node.into()))?;
        std::fs::write(placed.dir.join(name), content).map_err(|error| failed("write", error))
    }
}

#[async_trait]
impl Cluster for Processes {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn status(&self) -> Vec<NodeStatus> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |placed: &PlacedNode| {
            let node = &nodes[&placed.name];
            NodeStatus {
                node: placed.name.clone(),
                state: node.state.clone(),
                pid: node.pid,
                starts: node.starts,
                since: node.since.elapsed(),
            }
        };
        self.topology.nodes.iter().map(status).collect()
    }

    fn changes(&self) -> broadcast::Receiver<NodeChange> {
        self.changes.subscribe()
    }

    async fn up(&self) -> Result<(), ClusterError> {
        for node in &self.topology.nodes {
            self.start(&node.name, Actor::Runner).await?;
        }
        Ok(())
    }

    async fn answers(&self, _node: &str, _timeout: Duration) -> Result<Duration, String> {
        Ok(Duration::ZERO)
    }

    async fn start(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        let log = self.log_file(node).expect("always");
        let log = std::fs::File::options().append(true).create(true).open(log).map_err(|error| failed("log", error))?;
        let again = log.try_clone().map_err(|error| failed("log", error))?;
        let mut child = Command::new("sh")
            .args(["-c", &self.script])
            .env("NODE", node)
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .spawn()
            .map_err(|error| failed("sh", error))?;
        self.turn(node, NodeState::Running, child.id(), Some(by));
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let node = node.to_owned();
        chaosrun_base::task::spawn(async move {
            let status = child.wait().await.expect("waits");
            if let Some(own) = own.upgrade() {
                own.turn(&node, NodeState::Exited { code: status.code(), signal: status.signal() }, None, None);
            }
        });
        Ok(())
    }

    async fn stop(&self, node: &str, grace: Duration, _by: Actor) -> Result<(), ClusterError> {
        self.signal(node, Signal::SIGTERM)?;
        self.signal(node, Signal::SIGCONT)?;
        if tokio::time::timeout(grace, self.ended(node)).await.is_err() {
            self.signal(node, Signal::SIGKILL)?;
            self.ended(node).await;
        }
        Ok(())
    }

    async fn restart(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError> {
        if self.status().iter().any(|status| status.node == node && status.pid.is_some()) {
            self.stop(node, grace, by).await?;
        }
        self.start(node, by).await
    }

    async fn kill(&self, node: &str, signal: i32, _by: Actor) -> Result<(), ClusterError> {
        self.signal(node, Signal::try_from(signal).expect("a signal")).map(|_| ())
    }

    async fn pause(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        let pid = self.signal(node, Signal::SIGSTOP)?;
        self.turn(node, NodeState::Paused, Some(pid), Some(by));
        Ok(())
    }

    async fn unpause(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        let pid = self.signal(node, Signal::SIGCONT)?;
        self.turn(node, NodeState::Running, Some(pid), Some(by));
        Ok(())
    }

    async fn exec(&self, node: &str, mut exec: ExecRequest) -> Result<Running, ClusterError> {
        if exec.dir.as_os_str().is_empty() {
            exec.dir.clone_from(&self.topology.node(node).expect("a known node").dir);
        }
        Self::run(&exec, false)
    }

    async fn spawn(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        Self::run(&exec, true)
    }

    fn log_file(&self, node: &str) -> Option<PathBuf> {
        self.topology.node(node).map(|placed| placed.dir.join(format!("{node}.log")))
    }

    async fn down(&self) -> Result<(), ClusterError> {
        for node in &self.topology.nodes {
            if self.signal(&node.name, Signal::SIGKILL).is_ok() {
                self.ended(&node.name).await;
            }
        }
        Ok(())
    }
}
