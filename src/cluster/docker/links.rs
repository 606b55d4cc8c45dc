//! Cut links: what each holder keeps from coming in, put anew before its lease is over for as long as we live.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use indexmap::IndexMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::holder::{self, Mode};
use super::node::Node;
use crate::cluster::{ClusterError, Cut, CutMode, Severed, Topology};

/// The kernel mends a link this long after it was last heard that it should be cut.
const LEASE: Duration = Duration::from_secs(10);
const RENEWED_EVERY: Duration = Duration::from_secs(3);

type Nodes = Arc<IndexMap<String, Arc<Node>>>;
/// By the node whose holder keeps them.
type Wanted = BTreeMap<String, Vec<holder::Cut>>;

struct Change {
    wanted: Wanted,
    reply: oneshot::Sender<Result<(), ClusterError>>,
}

/// The links of a cluster. One task changes and renews them, so that a renewal never overtakes a mending.
#[derive(Debug)]
pub(super) struct Links {
    nodes: Nodes,
    changes: mpsc::Sender<Change>,
}

impl Links {
    pub fn new(nodes: &IndexMap<String, Arc<Node>>, tasks: &TaskTracker, token: CancellationToken) -> Self {
        let nodes: Nodes = Arc::new(nodes.clone());
        let (changes, wanted) = mpsc::channel(1);
        tasks.spawn(keep(Arc::clone(&nodes), wanted, token));
        Self { nodes, changes }
    }

    pub async fn cut(&self, cuts: &[Cut]) -> Result<(), ClusterError> {
        let wanted = self.wanted(cuts)?;
        let (reply, answer) = oneshot::channel();
        let _ = self.changes.send(Change { wanted, reply }).await;
        // Everything is mended with the cluster.
        answer.await.unwrap_or_else(|_| if cuts.is_empty() { Ok(()) } else { Err(ClusterError::Engine("the cluster is gone".into())) })
    }

    fn wanted(&self, cuts: &[Cut]) -> Result<Wanted, ClusterError> {
        let mut wanted = Wanted::new();
        for cut in cuts {
            let node = |name: &String| self.nodes.get(name).ok_or_else(|| ClusterError::NoSuchNode(name.clone()));
            let (from, to) = (node(&cut.from)?, node(&cut.to)?);
            let kept = holder::Cut { from: from.plan.address, mode: mode(cut.mode) };
            wanted.entry(to.plan.name.clone()).or_default().push(kept);
        }
        Ok(wanted)
    }

    /// What the kernels say.
    pub async fn severed(&self) -> Result<Vec<Severed>, ClusterError> {
        let names: BTreeMap<Ipv4Addr, &String> = self.nodes.iter().map(|(name, node)| (node.plan.address, name)).collect();
        let asked = self.nodes.iter().filter_map(|(to, node)| Some((to, node.holder.get()?)));
        let answers = join_all(asked.map(async |(to, holder)| (to, holder.cuts().await))).await;
        let mut found = Vec::new();
        for (to, cuts) in answers {
            for (from, counted) in cuts? {
                let Some(from) = names.get(&from) else { continue };
                let cut = Cut { from: (*from).clone(), to: to.clone(), mode: named(counted.mode) };
                found.push(Severed { cut, packets: Some(counted.packets) });
            }
        }
        Ok(found)
    }

    pub async fn reaches(&self, topology: &Topology, from: &str, to: &str, timeout: Duration) -> Result<Duration, String> {
        let holder = self.nodes.get(from).and_then(|node| node.holder.get()).ok_or("there is nobody to dial")?;
        let port = topology.node(to).and_then(|node| node.ports.values().next()).ok_or("there is no port to dial")?;
        let begin = Instant::now();
        match tokio::time::timeout(timeout, holder.dial(port.advertised)).await {
            Ok(Ok(_connected)) => Ok(begin.elapsed()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err("was refused".into()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("was not connected in {} ms", timeout.as_millis())),
        }
    }
}

async fn keep(nodes: Nodes, mut changes: mpsc::Receiver<Change>, token: CancellationToken) {
    let mut wanted = Wanted::new();
    let mut renewal = tokio::time::interval(RENEWED_EVERY);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            change = changes.recv() => {
                let Some(change) = change else { return };
                // Those that have nothing left to keep out are told so too.
                let mut all: Wanted = wanted.keys().map(|node| (node.clone(), Vec::new())).collect();
                all.extend(change.wanted.clone());
                wanted = change.wanted;
                let _ = change.reply.send(put(&nodes, &all).await);
                renewal.reset();
            }
            // A holder that is gone has mended its links, or the kernel does.
            _ = renewal.tick(), if !wanted.is_empty() => drop(put(&nodes, &wanted).await),
        }
    }
}

async fn put(nodes: &Nodes, wanted: &Wanted) -> Result<(), ClusterError> {
    let puts = wanted.iter().map(async |(name, cuts)| {
        let holder = nodes.get(name).and_then(|node| node.holder.get());
        let problem = || "has no holder yet".to_owned();
        let holder = holder.ok_or_else(|| ClusterError::Conflict { node: name.clone(), problem: problem() })?;
        holder.cut(cuts.clone(), LEASE).await
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
