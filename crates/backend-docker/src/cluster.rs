//! Cluster of one trial in containers.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use indexmap::IndexMap;
use tokio::sync::{OnceCell, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, WorkspaceParts};
use super::engine::Engine;
use super::error::words;
use super::image::{self, Image};
use super::links::ClusterLinks;
use super::network::{MOST_NODES, Network};
use super::node::{ContainerNode, DockerShared};
use super::plan::{self, NodeCreationPlan, named};
use super::reap::{self, ReapSelection};
use super::sidecar::{Guard, Holder};
use super::stress::Stresses;
use super::{clock_volume, events, usage};
use chaosrun_backend::ready::Prober;
use chaosrun_backend::render;
use chaosrun_backend_local::LocalCluster;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_base::task::Tasks;
use chaosrun_cluster::{
    Cluster, ClusterError, ExecRequest, NodeChange, NodeStatus, NodeUsage, PortAddress, ProcessInfo, Running, Topology, Workspace,
    WorkspaceSpec,
};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{Actor, NodeState};
use chaosrun_scenario::model;
use chaosrun_scenario::model::ImageSource;

/// Capacity of the channel of node changes. A reader that falls further behind loses the oldest changes.
const CHANGES: usize = 1024;

/// Maximum wait for the last log lines after all containers have been removed.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Time limit for the removal of containers before the data of the nodes is removed.
const WITH_DATA: Duration = Duration::from_secs(3);

/// Options of the cluster of a trial, in addition to the cluster file.
pub struct DockerOptions {
    pub engine: Engine,
    /// Images that `image::prepare` has built or pulled, by image source.
    pub images: Arc<IndexMap<ImageSource, Image>>,
    /// Path of the copy of this program that is installed in containers.
    pub program: PathBuf,
    pub run: RunId,
    pub trial: TrialId,
    /// Name of the trial for containers, which reveals nothing about the trial.
    pub opaque: String,
    /// Folder of the record of the run. The logs of nodes are written below it, for the command `show`.
    pub run_dir: PathBuf,
    /// Value of `trial.seed` in templates.
    pub seed: u64,
    pub emitter: Emitter,
    /// Local cluster without nodes. It runs helper programs of chaosrun, such as disk layers, beside the containers.
    pub beside: LocalCluster,
}

/// Cluster whose nodes are containers.
pub struct DockerCluster {
    spec: Arc<model::ClusterSpec>,
    topology: Topology,
    nodes: IndexMap<String, Arc<ContainerNode>>,
    shared: Arc<DockerShared>,
    network: Network,
    pub(super) links: ClusterLinks,
    pub(super) stresses: Stresses,
    sidecar: Image,
    labels: HashMap<String, String>,
    trial: TrialId,
    /// Listeners for addresses that the runner cannot dial directly. Each entry contains the node, the listener, and the address that is
    /// dialled through the network sidecar of the node.
    forwards: std::sync::Mutex<Vec<(String, TcpListener, SocketAddr)>>,
    place: Option<WorkspaceParts>,
    /// Container of the agent. The container is created while the cluster becomes steady, since the agent needs it at the first ticket.
    agent: Arc<OnceCell<Result<Agent, String>>>,
    pub(super) beside: LocalCluster,
    token: CancellationToken,
    tasks: Tasks,
}

impl std::fmt::Debug for DockerCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerCluster").field("name", &self.spec.name).field("network", &self.network.name).finish_non_exhaustive()
    }
}

impl DockerCluster {
    /// Creates the network, chooses addresses and renders all templates. Starts no container.
    ///
    /// # Errors
    /// Returns an error if the engine refuses the network, or if a template fails.
    pub async fn new(spec: Arc<model::ClusterSpec>, options: DockerOptions) -> Result<Self, ClusterError> {
        let DockerOptions { engine, images, program, run, trial, opaque, run_dir, seed, emitter, beside } = options;
        if spec.nodes.len() > MOST_NODES {
            return Err(ClusterError::Engine(format!("{} nodes, expected at most {MOST_NODES} in one network", spec.nodes.len())));
        }
        let logs = run_dir.join("logs");
        fs::create_dir_all(&logs).map_err(|source| ClusterError::Io { what: format!("cannot make `{}`", logs.display()), source })?;
        let image = |source: &ImageSource| images.get(source).cloned();
        let sidecar = image(&image::sidecar()).ok_or_else(|| ClusterError::Engine("the image of holders was not made".into()))?;
        let labels = reap::labels(&run, &trial);
        let network = Network::create(&engine, &opaque, &labels).await?;
        let (ports, forwards) = addresses(&spec.nodes, &network, engine.facts().local)?;
        let mut topology = render::topology(&spec, ports, Path::new(plan::DIRS));
        let rendered = render::nodes(&spec, &mut topology, seed)?;
        let shared = Arc::new(DockerShared {
            engine: engine.clone(),
            emitter,
            changes: broadcast::channel(CHANGES).0,
            prober: Prober::default(),
            tasks: Tasks::new(),
            labels: labels.clone(),
        });
        let mut nodes = IndexMap::new();
        for (at, ((node, placed), rendered)) in spec.nodes.iter().zip(&topology.nodes).zip(rendered).enumerate() {
            let image = plan::image_of(node, &images)?.clone();
            let mut plan = NodeCreationPlan::new(node, placed, rendered, network.address(at), image, &logs);
            plan.layer = node.layer.then(|| beside.layer_places(&node.name)).map(|[_, at]| at);
            let container = format!("{opaque}-{}", node.name);
            nodes.insert(node.name.clone(), Arc::new(ContainerNode::new(plan, container, Arc::clone(&shared))));
        }
        let place = spec.toolbox.as_ref().and_then(image).map(|toolbox| WorkspaceParts {
            engine,
            network: network.clone(),
            address: network.address(spec.nodes.len()),
            toolbox,
            sidecar: sidecar.clone(),
            name: format!("{opaque}-workstation"),
            labels: labels.clone(),
        });
        let (token, tasks) = (CancellationToken::new(), Tasks::new());
        let links = ClusterLinks::new(&nodes, &tasks, token.clone());
        let stresses = Stresses::new(program, tasks.clone(), token.clone());
        Ok(Self {
            spec,
            topology,
            nodes,
            shared,
            network,
            links,
            stresses,
            sidecar,
            labels,
            trial,
            forwards: forwards.into(),
            place,
            agent: Arc::default(),
            beside,
            token,
            tasks,
        })
    }

    pub(super) fn node(&self, name: &str) -> Result<&Arc<ContainerNode>, ClusterError> {
        self.nodes.get(name).ok_or_else(|| ClusterError::NoSuchNode(name.into()))
    }

    /// Creates the volumes and containers of a node, and starts the network sidecar. Does not start the workload container.
    async fn make(&self, node: &ContainerNode) -> Result<(), ClusterError> {
        let api = self.shared.engine.api();
        let name = &node.plan.name;
        let failed = |error: bollard::errors::Error| ClusterError::Start { node: name.clone(), problem: words(&error) };
        let (volume, net) = (&*node.container, node.net());
        node.plan.make_layer(&self.beside).await?;
        api.create_volume(node.plan.volume(volume, &self.labels)).await.map_err(failed)?;
        let mut body = plan::sidecar(&self.sidecar, &self.network, node.plan.address, name, Some((volume, None)), &self.labels);
        if node.plan.clock {
            let shared = node.clock_volume();
            api.create_volume(clock_volume::volume(&shared, &self.labels)).await.map_err(failed)?;
            plan::also_mount(&mut body, &shared, Path::new(clock_volume::FOLDER));
        }
        api.create_container(Some(named(&net)), body).await.map_err(failed)?;
        let workload = async {
            api.create_container(Some(named(&node.container)), node.body()).await.map_err(failed)?;
            node.furnish(&node.container, true).await?;
            node.check_clock().await
        };
        let hold = async {
            let sidecar = Holder::start(&self.shared.engine, &net, &self.network.turn).await?;
            sidecar.guard(Guard { subnet: self.network.subnet(), gateway: self.network.gateway() }).await?;
            node.make_clock(&sidecar).await?;
            Ok::<_, ClusterError>(sidecar)
        };
        let (sidecar, ()) = tokio::try_join!(hold, workload)?;
        self.check_layer(node, &sidecar).await?;
        // No other code sets this cell, so the call cannot fail.
        let _ = node.sidecar.set(sidecar);
        Ok(())
    }

    async fn start_role(&self, role: &model::Role, ready: &HashMap<&str, watch::Sender<bool>>) -> Result<(), ClusterError> {
        let after = async {
            for other in &role.after {
                if let Some(ready) = ready.get(other.as_str()) {
                    // The caller owns the sender of `ready`, and the caller lives longer than this task.
                    let _ = ready.subscribe().wait_for(|ready| *ready).await;
                }
            }
            Ok::<_, ClusterError>(())
        };
        let made = try_join_all(role.nodes.iter().map(async |name| self.make(self.node(name)?).await));
        tokio::try_join!(made, after)?;
        self.forward(role);
        try_join_all(role.nodes.iter().map(async |name| {
            let node = self.node(name)?;
            node.start(Actor::Runner).await?;
            node.until_ready().await
        }))
        .await?;
        if let Some(ready) = ready.get(role.name.as_str()) {
            ready.send_replace(true);
        }
        Ok(())
    }

    /// Starts forwarding for the listeners of the nodes of the role, if there are any.
    fn forward(&self, role: &model::Role) {
        let mut forwards = self.forwards.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (own, others): (Vec<_>, Vec<_>) = forwards.drain(..).partition(|(node, _, _)| role.nodes.contains(node));
        *forwards = others;
        for (node, listener, to) in own {
            let Some(sidecar) = self.nodes.get(&node).and_then(|node| node.sidecar.get()) else { continue };
            self.tasks.spawn(forward(listener, sidecar.clone(), to, self.token.clone()));
        }
    }

    async fn agent(&self) -> Result<&Agent, ClusterError> {
        let agent = self.agent.get_or_init(|| made(self.place.clone())).await;
        agent.as_ref().map_err(|problem| ClusterError::Engine(problem.clone()))
    }
}

#[async_trait]
impl Cluster for DockerCluster {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn status(&self) -> Vec<NodeStatus> {
        let status = |(name, node): (&String, &Arc<ContainerNode>)| {
            let view = node.view.borrow();
            NodeStatus { node: name.clone(), state: view.state.clone(), pid: None, starts: view.starts, since: view.since.elapsed() }
        };
        self.nodes.iter().map(status).collect()
    }

    fn changes(&self) -> broadcast::Receiver<NodeChange> {
        self.shared.changes.subscribe()
    }

    async fn up(&self) -> Result<(), ClusterError> {
        let nodes = self.nodes.iter().map(|(name, node)| (name.clone(), Arc::clone(node))).collect();
        let (engine, emitter) = (self.shared.engine.clone(), self.shared.emitter.clone());
        self.tasks.spawn(events::follow(engine, self.trial.clone(), nodes, emitter, self.token.clone()));
        let ready: HashMap<&str, watch::Sender<bool>> =
            self.spec.roles.keys().map(|name| (name.as_str(), watch::Sender::new(false))).collect();
        try_join_all(self.spec.roles.values().map(|role| self.start_role(role, &ready))).await?;
        let (agent, place, token) = (Arc::clone(&self.agent), self.place.clone(), self.token.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                _ = agent.get_or_init(|| made(place)) => {}
            }
        });
        Ok(())
    }

    async fn answers(&self, node: &str, timeout: Duration) -> Result<Duration, String> {
        let node = self.node(node).map_err(|error| error.to_string())?;
        node.answers(timeout).await
    }

    async fn start(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        self.node(node)?.start(by).await
    }

    async fn stop(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError> {
        self.node(node)?.stop(grace, by).await
    }

    async fn restart(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError> {
        self.node(node)?.restart(grace, by).await
    }

    async fn kill(&self, node: &str, signal: i32, by: Actor) -> Result<(), ClusterError> {
        self.node(node)?.kill(signal, by).await
    }

    async fn pause(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        self.node(node)?.pause(by).await
    }

    async fn unpause(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        self.node(node)?.unpause(by).await
    }

    async fn exec(&self, node: &str, exec: ExecRequest) -> Result<Running, ClusterError> {
        let node = self.node(node)?;
        match node.state() {
            NodeState::Running => node.inside().run(exec, &node.plan.dir).await,
            NodeState::Paused => Err(node.conflict("is paused; unpause it")),
            NodeState::Created | NodeState::Exited { .. } => Err(node.conflict("is not running")),
        }
    }

    /// Opens a workspace in the container of the agent. The workspace is always a sandbox.
    async fn open_workspace(&self, workspace_spec: &WorkspaceSpec) -> Result<Workspace, ClusterError> {
        self.agent().await?.open_workspace(workspace_spec).await
    }

    async fn close_workspace(&self) {
        if let Some(Ok(agent)) = self.agent.get()
            && let Err(error) = agent.end().await
        {
            self.shared.emitter.warn(error.to_string());
        }
    }

    async fn usage(&self, node: &str) -> Result<NodeUsage, ClusterError> {
        let node = self.node(node)?;
        let used = usage::usage(&self.shared.engine, &node.container);
        let traffic = async {
            match node.sidecar.get() {
                Some(sidecar) => sidecar.traffic().await.ok(),
                None => None,
            }
        };
        let (used, network) = tokio::join!(used, traffic);
        Ok(NodeUsage { network, ..used? })
    }

    async fn processes(&self, node: &str) -> Result<Vec<ProcessInfo>, ClusterError> {
        let node = self.node(node)?;
        match node.state() {
            NodeState::Running | NodeState::Paused => usage::processes(&self.shared.engine, &node.container).await,
            NodeState::Created | NodeState::Exited { .. } => Err(node.conflict("is not running")),
        }
    }

    async fn spawn(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        self.agent().await?.run(exec).await
    }

    async fn spawn_driver(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        self.beside.spawn_driver(exec).await
    }

    fn log_file(&self, node: &str) -> Option<PathBuf> {
        Some(self.nodes.get(node)?.plan.log.clone())
    }

    async fn down(&self) -> Result<(), ClusterError> {
        for node in self.nodes.values() {
            node.ends();
        }
        let mut removed = std::pin::pin!(reap::clear(&self.shared.engine, ReapSelection::Trial(&self.trial), reap::PATIENTLY));
        // Nodes that lose their data before they end would log errors until their end. However, a node that waits for a slow disk may end
        // only together with its disk layer.
        let layered = self.nodes.values().any(|node| node.plan.layer.is_some());
        let early = if layered { tokio::time::timeout(WITH_DATA, &mut removed).await.ok() } else { None };
        let last = async {
            match early {
                Some(removed) => removed,
                None => removed.await,
            }
        };
        let (removed, beside) = tokio::join!(last, self.beside.down());
        if let Some(Ok(agent)) = self.agent.get() {
            agent.close();
        }
        self.shared.tasks.close();
        // If the end of a log does not arrive in time, the log remains incomplete.
        let _ = tokio::time::timeout(LAST_LINES, self.shared.tasks.wait()).await;
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        removed?;
        beside
    }
}

async fn made(place: Option<WorkspaceParts>) -> Result<Agent, String> {
    match place {
        Some(place) => Agent::start(&place).await.map_err(|error| error.to_string()),
        None => Err("the cluster has no toolbox for an agent".into()),
    }
}

type Ports = IndexMap<String, PortAddress>;
type Forward = (String, TcpListener, SocketAddr);

/// Returns the addresses of all declared ports, with one IP address per node. If the runner cannot dial the addresses of the engine, each
/// port gets a local listener.
fn addresses(nodes: &[model::Node], network: &Network, direct: bool) -> Result<(Vec<Ports>, Vec<Forward>), ClusterError> {
    let mut forwards = Vec::new();
    let mut addresses = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let mut ports = IndexMap::new();
        for (name, port) in &node.ports {
            let inside = SocketAddr::from((network.address(at), *port));
            let mut reach = None;
            if !direct {
                let io = |source| ClusterError::Io { what: "no free address for a forwarder".into(), source };
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io)?;
                listener.set_nonblocking(true).map_err(io)?;
                reach = Some(listener.local_addr().map_err(io)?);
                forwards.push((node.name.clone(), listener, inside));
            }
            ports.insert(name.clone(), PortAddress { listen: inside, advertised: inside, reach });
        }
        addresses.push(ports);
    }
    Ok((addresses, forwards))
}

/// Forwards every connection of `listener` to the address `to`, which is dialled in the network namespace of the sidecar.
async fn forward(listener: TcpListener, sidecar: Holder, to: SocketAddr, token: CancellationToken) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let connections = Tasks::new();
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut here, _)) = accepted else { continue };
        let (sidecar, token) = (sidecar.clone(), token.clone());
        connections.spawn(async move {
            let carried = async {
                // If the dial is refused, this connection is closed with a reset, if possible.
                match sidecar.dial(to).await {
                    Ok(mut there) => drop(tokio::io::copy_bidirectional(&mut here, &mut there).await),
                    Err(_) => drop(here.set_zero_linger()),
                }
            };
            tokio::select! {
                () = token.cancelled() => {}
                () = carried => {}
            }
        });
    }
}
