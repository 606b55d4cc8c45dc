//! The cluster of one trial in containers.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use futures_util::future::try_join_all;
use indexmap::IndexMap;
use tokio::sync::{OnceCell, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agent::{Agent, Place};
use super::engine::Engine;
use super::error::words;
use super::holder::{Guard, Holder};
use super::image::{self, Image};
use super::links::Links;
use super::network::{MOST_NODES, Network};
use super::node::{Node, Shared};
use super::plan::{self, Plan};
use super::reap::{self, Which};
use super::stress::Stresses;
use super::{clock, events, usage};
use crate::cluster::local::LocalCluster;
use crate::cluster::ready::Prober;
use crate::cluster::{
    Cluster, ClusterError, Exec, NodeChange, NodeStatus, PortAddress, ProcessInfo, Running, Seat, Seating, Topology, Usage, render,
};
use crate::emit::Emitter;
use crate::event::{Actor, NodeState};
use crate::ids::{RunId, TrialId};
use crate::scenario::model::{self, ImageSource};

/// Changes that may wait for a slow reader before the oldest are lost to it.
const CHANGES: usize = 1024;

/// How long the last lines of logs are awaited when all containers are gone.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long containers may take to be removed while their data is still there.
const WITH_DATA: Duration = Duration::from_secs(3);

/// What a trial's cluster is built with, beside the cluster file.
pub struct DockerOptions {
    pub engine: Engine,
    /// All that `image::prepare` made.
    pub images: Arc<IndexMap<ImageSource, Image>>,
    /// A copy of this program, for containers.
    pub program: PathBuf,
    pub run: RunId,
    pub trial: TrialId,
    /// An opaque name of the trial, for containers.
    pub opaque: String,
    /// Kept for `show`: the nodes' logs are written below it.
    pub run_dir: PathBuf,
    /// `trial.seed` in templates.
    pub seed: u64,
    pub emitter: Emitter,
    /// Where programs of ours run, beside the containers: a cluster without nodes.
    pub beside: LocalCluster,
}

/// A cluster of containers.
pub struct DockerCluster {
    spec: Arc<model::Cluster>,
    topology: Topology,
    nodes: IndexMap<String, Arc<Node>>,
    shared: Arc<Shared>,
    network: Network,
    pub(super) links: Links,
    pub(super) stresses: Stresses,
    holder: Image,
    labels: HashMap<String, String>,
    trial: TrialId,
    /// Listeners of ours for what cannot be dialled, with the address that is dialled for each through the node's holder.
    forwards: std::sync::Mutex<Vec<(String, TcpListener, SocketAddr)>>,
    place: Option<Place>,
    /// Made while the cluster gets steady: it is needed at the first ticket.
    agent: Arc<OnceCell<Result<Agent, String>>>,
    pub(super) beside: LocalCluster,
    token: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for DockerCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerCluster").field("name", &self.spec.name).field("network", &self.network.name).finish_non_exhaustive()
    }
}

impl DockerCluster {
    /// Makes the network, chooses addresses and renders everything; starts nothing.
    ///
    /// # Errors
    /// When the engine makes no network, or a template fails.
    pub async fn new(spec: Arc<model::Cluster>, options: DockerOptions) -> Result<Self, ClusterError> {
        let DockerOptions { engine, images, program, run, trial, opaque, run_dir, seed, emitter, beside } = options;
        if spec.nodes.len() > MOST_NODES {
            return Err(ClusterError::Engine(format!("{} nodes, expected at most {MOST_NODES} in one network", spec.nodes.len())));
        }
        let logs = run_dir.join("logs");
        fs::create_dir_all(&logs).map_err(|source| ClusterError::Io { what: format!("cannot make `{}`", logs.display()), source })?;
        let image = |source: &ImageSource| images.get(source).cloned();
        let holder = image(&image::holder()).ok_or_else(|| ClusterError::Engine("the image of holders was not made".into()))?;
        let labels = reap::labels(&run, &trial);
        let network = Network::create(&engine, &opaque, &labels).await?;
        let (ports, forwards) = addresses(&spec.nodes, &network, engine.facts().local)?;
        let mut topology = render::topology(&spec, ports, Path::new(plan::DIRS));
        let rendered = render::nodes(&spec, &mut topology, seed)?;
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            emitter,
            changes: broadcast::channel(CHANGES).0,
            prober: Prober::default(),
            tasks: TaskTracker::new(),
            labels: labels.clone(),
        });
        let mut nodes = IndexMap::new();
        for (at, ((node, placed), rendered)) in spec.nodes.iter().zip(&topology.nodes).zip(rendered).enumerate() {
            let image = plan::image_of(node, &images)?.clone();
            let mut plan = Plan::new(node, placed, rendered, network.address(at), image, &logs);
            plan.layer = node.layer.then(|| beside.layer_places(&node.name)).map(|[_, at]| at);
            let container = format!("{opaque}-{}", node.name);
            nodes.insert(node.name.clone(), Arc::new(Node::new(plan, container, Arc::clone(&shared))));
        }
        let place = spec.toolbox.as_ref().and_then(image).map(|toolbox| Place {
            engine,
            network: network.clone(),
            address: network.address(spec.nodes.len()),
            toolbox,
            holder: holder.clone(),
            name: format!("{opaque}-workstation"),
            labels: labels.clone(),
        });
        let (token, tasks) = (CancellationToken::new(), TaskTracker::new());
        let links = Links::new(&nodes, &tasks, token.clone());
        let stresses = Stresses::new(program, tasks.clone(), token.clone());
        Ok(Self {
            spec,
            topology,
            nodes,
            shared,
            network,
            links,
            stresses,
            holder,
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

    pub(super) fn node(&self, name: &str) -> Result<&Arc<Node>, ClusterError> {
        self.nodes.get(name).ok_or_else(|| ClusterError::NoSuchNode(name.into()))
    }

    /// Everything of a node but the start of its workload.
    async fn make(&self, node: &Node) -> Result<(), ClusterError> {
        let api = self.shared.engine.api();
        let name = &node.plan.name;
        let failed = |error: bollard::errors::Error| ClusterError::Start { node: name.clone(), problem: words(&error) };
        let (volume, net) = (&*node.container, node.net());
        node.plan.make_layer(&self.beside).await?;
        api.create_volume(node.plan.volume(volume, &self.labels)).await.map_err(failed)?;
        let mut body = plan::holder(&self.holder, &self.network, node.plan.address, name, Some((volume, None)), &self.labels);
        if node.plan.clock {
            let shared = node.clock_volume();
            api.create_volume(clock::volume(&shared, &self.labels)).await.map_err(failed)?;
            plan::also_mount(&mut body, &shared, Path::new(clock::FOLDER));
        }
        api.create_container(Some(named(&net)), body).await.map_err(failed)?;
        let workload = async {
            api.create_container(Some(named(&node.container)), node.body()).await.map_err(failed)?;
            node.furnish(&node.container, true).await?;
            node.check_clock().await
        };
        let hold = async {
            let holder = Holder::start(&self.shared.engine, &net, &self.network.turn).await?;
            holder.guard(Guard { subnet: self.network.subnet(), gateway: self.network.gateway() }).await?;
            node.make_clock(&holder).await?;
            Ok::<_, ClusterError>(holder)
        };
        let (holder, ()) = tokio::try_join!(hold, workload)?;
        self.check_layer(node, &holder).await?;
        // Made once: nobody else sets it.
        let _ = node.holder.set(holder);
        Ok(())
    }

    async fn start_role(&self, role: &model::Role, ready: &HashMap<&str, watch::Sender<bool>>) -> Result<(), ClusterError> {
        let after = async {
            for other in &role.after {
                if let Some(ready) = ready.get(other.as_str()) {
                    // The sender lives in the caller, as long as this does.
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

    /// Serves the role's forwarders, if it has any.
    fn forward(&self, role: &model::Role) {
        let mut forwards = self.forwards.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (own, others): (Vec<_>, Vec<_>) = forwards.drain(..).partition(|(node, _, _)| role.nodes.contains(node));
        *forwards = others;
        for (node, listener, to) in own {
            let Some(holder) = self.nodes.get(&node).and_then(|node| node.holder.get()) else { continue };
            self.tasks.spawn(forward(listener, holder.clone(), to, self.token.clone()));
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
        let status = |(name, node): (&String, &Arc<Node>)| {
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

    async fn exec(&self, node: &str, exec: Exec) -> Result<Running, ClusterError> {
        let node = self.node(node)?;
        match node.state() {
            NodeState::Running => node.inside().run(exec, &node.plan.dir).await,
            NodeState::Paused => Err(node.conflict("is paused; unpause it")),
            NodeState::Created | NodeState::Exited { .. } => Err(node.conflict("is not running")),
        }
    }

    /// A container is a sandbox, whether or not it has to be one.
    async fn seat(&self, seating: &Seating) -> Result<Seat, ClusterError> {
        self.agent().await?.seat(seating).await
    }

    async fn unseat(&self) {
        if let Some(Ok(agent)) = self.agent.get()
            && let Err(error) = agent.end().await
        {
            self.shared.emitter.warn(error.to_string());
        }
    }

    async fn usage(&self, node: &str) -> Result<Usage, ClusterError> {
        let node = self.node(node)?;
        let used = usage::usage(&self.shared.engine, &node.container);
        let traffic = async {
            match node.holder.get() {
                Some(holder) => holder.traffic().await.ok(),
                None => None,
            }
        };
        let (used, network) = tokio::join!(used, traffic);
        Ok(Usage { network, ..used? })
    }

    async fn processes(&self, node: &str) -> Result<Vec<ProcessInfo>, ClusterError> {
        let node = self.node(node)?;
        match node.state() {
            NodeState::Running | NodeState::Paused => usage::processes(&self.shared.engine, &node.container).await,
            NodeState::Created | NodeState::Exited { .. } => Err(node.conflict("is not running")),
        }
    }

    async fn spawn(&self, exec: Exec) -> Result<Running, ClusterError> {
        self.agent().await?.run(exec).await
    }

    async fn spawn_driver(&self, exec: Exec) -> Result<Running, ClusterError> {
        self.beside.spawn_driver(exec).await
    }

    fn log_file(&self, node: &str) -> Option<PathBuf> {
        Some(self.nodes.get(node)?.plan.log.clone())
    }

    async fn down(&self) -> Result<(), ClusterError> {
        for node in self.nodes.values() {
            node.ends();
        }
        let mut removed = std::pin::pin!(reap::clear(&self.shared.engine, Which::Trial(&self.trial), reap::PATIENTLY));
        // Nodes that lose their data before they end would complain of it to the last; but one that waits for a slow disk may end
        // with its layer alone.
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
        // A log whose end does not come is as long as it is.
        let _ = tokio::time::timeout(LAST_LINES, self.shared.tasks.wait()).await;
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        removed?;
        beside
    }
}

async fn made(place: Option<Place>) -> Result<Agent, String> {
    match place {
        Some(place) => Agent::start(&place).await.map_err(|error| error.to_string()),
        None => Err("the cluster has no toolbox for an agent".into()),
    }
}

pub(super) fn named(name: &str) -> bollard::query_parameters::CreateContainerOptions {
    CreateContainerOptionsBuilder::new().name(name).build()
}

type Ports = IndexMap<String, PortAddress>;
type Forward = (String, TcpListener, SocketAddr);

/// The ports that the file declares, on an address a node. Where the engine's addresses cannot be dialled from here, each
/// gets a listener of ours.
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

/// Carries every connection to `to`, dialled where the holder is.
async fn forward(listener: TcpListener, holder: Holder, to: SocketAddr, token: CancellationToken) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut here, _)) = accepted else { continue };
        let (holder, token) = (holder.clone(), token.clone());
        connections.spawn(async move {
            let carried = async {
                // Refused there is closed here: a reset, as far as that can be said.
                match holder.dial(to).await {
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
