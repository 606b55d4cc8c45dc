//! Links between nodes. Each sidecar applies effects to incoming packets, and this module renews the effects before their lease ends. The
//! module also measures links.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use indexmap::IndexMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::node::ContainerNode;
use super::sidecar::{self, Holder, InForce, LinkSelector, Mode, Ports};
use chaosrun_base::removal::RemovalLayer;
use chaosrun_base::task::Tasks;
use chaosrun_cluster::{ClusterError, CutMode, LinkPath, LinkState, Pinging, Pings, Topology};

/// Lease of the effects on a link. The kernel removes the effects this long after the last renewal.
const LEASE: Duration = Duration::from_secs(10);
/// Lease that ends after every trial. Used if a test disables the removal of effects by the kernel.
const ENDLESS: Duration = Duration::from_secs(24 * 60 * 60);
const RENEWED_EVERY: Duration = Duration::from_secs(3);

type Nodes = Arc<IndexMap<String, Arc<ContainerNode>>>;
/// Requested paths, by the name of the node whose sidecar applies them.
type Wanted = BTreeMap<String, Vec<sidecar::LinkPath>>;

struct Change {
    wanted: Wanted,
    seed: u64,
    reply: oneshot::Sender<Result<(), ClusterError>>,
}

/// Link effects of a cluster. A single task changes and renews the effects, so that a renewal never follows a later removal of effects.
#[derive(Debug)]
pub(super) struct ClusterLinks {
    nodes: Nodes,
    changes: mpsc::Sender<Change>,
}

impl ClusterLinks {
    pub fn new(nodes: &IndexMap<String, Arc<ContainerNode>>, tasks: &Tasks, token: CancellationToken) -> Self {
        let nodes: Nodes = Arc::new(nodes.clone());
        let (changes, wanted) = mpsc::channel(1);
        tasks.spawn(keep(Arc::clone(&nodes), wanted, token));
        Self { nodes, changes }
    }

    pub async fn set(&self, topology: &Topology, paths: &[LinkPath], seed: u64) -> Result<(), ClusterError> {
        let wanted = self.wanted(topology, paths)?;
        let (reply, answer) = oneshot::channel();
        let _ = self.changes.send(Change { wanted, seed, reply }).await;
        // A closed reply channel means that the cluster has ended, which heals all links.
        answer.await.unwrap_or_else(|_| if paths.is_empty() { Ok(()) } else { Err(ClusterError::Engine("the cluster is gone".into())) })
    }

    fn wanted(&self, topology: &Topology, paths: &[LinkPath]) -> Result<Wanted, ClusterError> {
        let mut wanted = Wanted::new();
        for path in paths {
            let LinkPath { from, to, port, cut, shape } = path;
            let name = format!("{from}>{to}{}", port.as_ref().map(|port| format!(":{port}")).unwrap_or_default());
            let kept = sidecar::LinkPath {
                way: self.way(topology, from, to, port.as_deref())?,
                cut: cut.map(mode),
                shape: Some(*shape).filter(|shape| !shape.is_plain()),
                name,
            };
            wanted.entry(to.clone()).or_default().push(kept);
        }
        Ok(wanted)
    }

    /// Returns the selector of packets from `from` to `to`, which the sidecar of `to` applies.
    fn way(&self, topology: &Topology, from: &str, to: &str, port: Option<&str>) -> Result<LinkSelector, ClusterError> {
        let node = |name: &str| self.nodes.get(name).ok_or_else(|| ClusterError::NoSuchNode(name.into()));
        let (from_address, _) = (node(from)?.plan.address, node(to)?);
        let ports = port.map(|port| {
            let ports = ports(topology, from, to, port);
            let problem = || format!("has no port `{port}`, and neither has {from}");
            ports.ok_or_else(|| ClusterError::Conflict { node: to.into(), problem: problem() })
        });
        Ok(LinkSelector { from: from_address, ports: ports.transpose()? })
    }

    /// Returns the active links, read back from the kernels and from the threads that delay packets.
    pub async fn states(&self, topology: &Topology) -> Result<Vec<LinkState>, ClusterError> {
        let names: BTreeMap<Ipv4Addr, &String> = self.nodes.iter().map(|(name, node)| (node.plan.address, name)).collect();
        let asked = self.nodes.iter().filter_map(|(to, node)| Some((to, node.sidecar.get()?)));
        let answers = join_all(asked.map(async |(to, sidecar)| (to, sidecar.links().await))).await;
        let mut found = Vec::new();
        for (to, paths) in answers {
            for InForce { way, cut, shape, counted } in paths? {
                let Some(from) = names.get(&way.from) else { continue };
                let port = way.ports.and_then(|numbers| {
                    let known = topology.node(from).into_iter().chain(topology.node(to)).flat_map(|node| node.ports.keys());
                    known.into_iter().find(|port| ports(topology, from, to, port) == Some(numbers)).cloned()
                });
                let path = LinkPath { from: (*from).clone(), to: to.clone(), port, cut: cut.map(named), shape: shape.unwrap_or_default() };
                found.push(LinkState { path, counted: Some(counted) });
            }
        }
        Ok(found)
    }

    fn sidecar(&self, node: &str) -> Result<&Holder, String> {
        self.nodes.get(node).and_then(|node| node.sidecar.get()).ok_or_else(|| format!("{node} has no network sidecar yet"))
    }

    pub async fn ping(&self, topology: &Topology, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        let address = self.nodes.get(to).ok_or_else(|| format!("there is no {to}"))?.plan.address;
        let number = |port: &str| {
            let there = topology.node(to).and_then(|node| node.ports.get(port)).map(|port| port.listen.port());
            there.ok_or_else(|| format!("{to} has no port `{port}`"))
        };
        let port = port.map(number).transpose()?;
        self.sidecar(from)?.ping(address, port, how).await.map_err(|error| error.to_string())
    }

    /// Measures the throughput between two nodes, on temporary ports. If `port` is given, the packets are treated like packets of the path
    /// of that port.
    pub async fn throughput(&self, topology: &Topology, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        let like = self.way(topology, from, to, port).map_err(|error| error.to_string())?;
        let own = self.nodes.get(to).ok_or_else(|| format!("there is no {to}"))?.plan.address;
        let measured = self.sidecar(to)?.receives(own, self.sidecar(from)?, like, during);
        measured.await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionReset => "was reset".into(),
            _ => error.to_string(),
        })
    }

    pub async fn reaches(&self, topology: &Topology, from: &str, to: &str, timeout: Duration) -> Result<Duration, String> {
        let sidecar = self.nodes.get(from).and_then(|node| node.sidecar.get()).ok_or("there is nobody to dial")?;
        let port = topology.node(to).and_then(|node| node.ports.values().next()).ok_or("there is no port to dial")?;
        let begin = Instant::now();
        match tokio::time::timeout(timeout, sidecar.dial(port.advertised)).await {
            Ok(Ok(_connected)) => Ok(begin.elapsed()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err("was refused".into()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("was not connected in {} ms", timeout.as_millis())),
        }
    }
}

/// Returns the port numbers of the port name `port` at both nodes.
fn ports(topology: &Topology, from: &str, to: &str, port: &str) -> Option<Ports> {
    let number = |node| Some(topology.node(node)?.ports.get(port)?.listen.port());
    let ports = Ports { ours: number(to), theirs: number(from) };
    (ports != Ports::default()).then_some(ports)
}

async fn keep(nodes: Nodes, mut changes: mpsc::Receiver<Change>, token: CancellationToken) {
    let (mut wanted, mut seed) = (Wanted::new(), 0);
    let mut renewal = tokio::time::interval(RENEWED_EVERY);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            change = changes.recv() => {
                let Some(change) = change else { return };
                // The change includes nodes that no longer have paths, so that they remove their effects.
                let mut all: Wanted = wanted.keys().map(|node| (node.clone(), Vec::new())).collect();
                all.extend(change.wanted.clone());
                (wanted, seed) = (change.wanted, change.seed);
                let _ = change.reply.send(put(&nodes, &all, seed).await);
                renewal.reset();
            }
            // If a sidecar has ended, it or the kernel has removed its effects, so an error is ignored.
            _ = renewal.tick(), if !wanted.is_empty() => drop(put(&nodes, &wanted, seed).await),
        }
    }
}

async fn put(nodes: &Nodes, wanted: &Wanted, seed: u64) -> Result<(), ClusterError> {
    let lease = if RemovalLayer::Kernel.works() { LEASE } else { ENDLESS };
    let puts = wanted.iter().map(async |(name, paths)| {
        let sidecar = nodes.get(name).and_then(|node| node.sidecar.get());
        let problem = || "has no network sidecar yet".to_owned();
        let sidecar = sidecar.ok_or_else(|| ClusterError::Conflict { node: name.clone(), problem: problem() })?;
        sidecar.set_links(paths.clone(), seed, lease).await
    });
    join_all(puts).await.into_iter().collect()
}

fn mode(mode: CutMode) -> Mode {
    match mode {
        CutMode::Stall => Mode::Stall,
        CutMode::Drop => Mode::Drop,
        CutMode::Reject => Mode::Reject,
    }
}

fn named(mode: Mode) -> CutMode {
    match mode {
        Mode::Stall => CutMode::Stall,
        Mode::Drop => CutMode::Drop,
        Mode::Reject => CutMode::Reject,
    }
}
