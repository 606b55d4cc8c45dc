//! Test backend whose nodes are entries of a table. A node runs if its table entry says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chaosrun_cluster::backend::{Description, Way};
use chaosrun_cluster::{
    Cluster, ClusterError, ExecRequest, FaultControl, NodeChange, NodeStatus, PlacedNode, Running, Topology, Workspace, WorkspaceSpec,
};
use chaosrun_engine::run::backend::{Making, Registration};
use chaosrun_event::{Actor, NodeState};
use chaosrun_scenario::model;
use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use nix::libc::SIGKILL;
use tokio::sync::broadcast;

pub static DREAM: Registration = Registration {
    description: &Description {
        name: "dream",
        about: "Nodes of a table",
        images: false,
        contains_agents: true,
        standins: true,
        own_disks: false,
        memory_limits: false,
        node_memory: 1 << 20,
        ways: &[("node_kill", &[Way::plain("the table says that the node is dead")])],
    },
    make,
};

fn make(making: Making<'_>) -> BoxFuture<'_, Result<Arc<dyn Cluster>, ClusterError>> {
    let Making { spec, options, .. } = making;
    Box::pin(std::future::ready(Ok(Dream::make(spec, &options.agent_dir))))
}

struct Dream {
    topology: Topology,
    nodes: Mutex<BTreeMap<String, (NodeState, u32, Instant)>>,
    changes: broadcast::Sender<NodeChange>,
}

impl Dream {
    fn make(spec: &model::ClusterSpec, dir: &Path) -> Arc<dyn Cluster> {
        let placed = |node: &model::Node| PlacedNode {
            name: node.name.clone(),
            role: node.role.clone(),
            index: node.index,
            ports: IndexMap::new(),
            dir: dir.to_owned(),
            data: dir.join("data"),
            disk: None,
        };
        let topology = Topology { nodes: spec.nodes.iter().map(placed).collect() };
        let nodes = topology.nodes.iter().map(|node| (node.name.clone(), (NodeState::Created, 0, Instant::now()))).collect();
        Arc::new(Self { topology, nodes: Mutex::new(nodes), changes: broadcast::channel(64).0 })
    }

    fn turn(&self, node: &str, state: NodeState, by: Actor) -> Result<(), ClusterError> {
        let mut nodes = self.nodes.lock().unwrap();
        let entry = nodes.get_mut(node).ok_or_else(|| ClusterError::NoSuchNode(node.into()))?;
        *entry = (state.clone(), entry.1 + u32::from(state == NodeState::Running), Instant::now());
        // An error means that there is no receiver.
        let _ = self.changes.send(NodeChange { node: node.into(), state, by: Some(by) });
        Ok(())
    }
}

fn nothing<T>(node: &str) -> Result<T, ClusterError> {
    Err(ClusterError::Conflict { node: node.into(), problem: "is only a dream".into() })
}

impl FaultControl for Dream {}

#[async_trait]
impl Cluster for Dream {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn status(&self) -> Vec<NodeStatus> {
        let nodes = self.nodes.lock().unwrap();
        let status = |(node, (state, starts, since)): (&String, &(NodeState, u32, Instant))| NodeStatus {
            node: node.clone(),
            state: state.clone(),
            pid: None,
            starts: *starts,
            since: since.elapsed(),
        };
        nodes.iter().map(status).collect()
    }

    fn changes(&self) -> broadcast::Receiver<NodeChange> {
        self.changes.subscribe()
    }

    async fn up(&self) -> Result<(), ClusterError> {
        self.topology.nodes.iter().try_for_each(|node| self.turn(&node.name, NodeState::Running, Actor::Runner))
    }

    async fn answers(&self, node: &str, _timeout: Duration) -> Result<Duration, String> {
        let runs = self.nodes.lock().unwrap().get(node).is_some_and(|(state, ..)| *state == NodeState::Running);
        if runs { Ok(Duration::ZERO) } else { Err("does not run".into()) }
    }

    async fn start(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        self.turn(node, NodeState::Running, by)
    }

    async fn stop(&self, node: &str, _grace: Duration, by: Actor) -> Result<(), ClusterError> {
        self.turn(node, NodeState::Exited { code: Some(0), signal: None }, by)
    }

    async fn restart(&self, node: &str, _grace: Duration, by: Actor) -> Result<(), ClusterError> {
        self.turn(node, NodeState::Running, by)
    }

    async fn kill(&self, node: &str, signal: i32, by: Actor) -> Result<(), ClusterError> {
        assert_eq!(signal, SIGKILL);
        self.turn(node, NodeState::Exited { code: None, signal: Some(signal) }, by)
    }

    async fn pause(&self, node: &str, _by: Actor) -> Result<(), ClusterError> {
        nothing(node)
    }

    async fn unpause(&self, node: &str, _by: Actor) -> Result<(), ClusterError> {
        nothing(node)
    }

    async fn exec(&self, node: &str, _exec: ExecRequest) -> Result<Running, ClusterError> {
        nothing(node)
    }

    async fn open_workspace(&self, _seating: &WorkspaceSpec) -> Result<Workspace, ClusterError> {
        // Agents that do nothing need no shell in it.
        Ok(Workspace { shell_host: ExecRequest::default(), sandbox: true, program: PathBuf::new(), files: PathBuf::new() })
    }

    async fn spawn(&self, _exec: ExecRequest) -> Result<Running, ClusterError> {
        nothing("agent")
    }

    fn log_file(&self, _node: &str) -> Option<PathBuf> {
        None
    }

    async fn down(&self) -> Result<(), ClusterError> {
        self.topology
            .nodes
            .iter()
            .try_for_each(|node| self.turn(&node.name, NodeState::Exited { code: Some(0), signal: None }, Actor::Runner))
    }
}
