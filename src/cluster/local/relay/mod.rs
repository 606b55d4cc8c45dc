//! Links between nodes: every byte that goes to an advertised address passes here.
//!
//! Each (node, port) has one listener, its only advertised address for the whole trial. A connection is *named* when it is
//! accepted, by the owner of the socket that dialled, before a byte of it is forwarded. What may pass is decided by rules
//! per (sender, receiver, port) over all connections of the pair, whoever dialled; a change of the rules acts at once on
//! connections that are already open.
//!
//! A relay sees a stream, not packets: delay and cuts are honest here, packet loss and reordering are not and are absent.

mod accept;
mod connection;
mod gate;
pub mod owner;
mod probe;
mod pump;
mod rules;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use gate::Gate;
use probe::Probes;
use rules::Table;
pub use rules::{Cut, Effect, Rule};

/// One advertised address and what stands behind it.
#[derive(Debug)]
pub struct RelayLink {
    pub node: String,
    /// The port's name in the cluster file.
    pub port: String,
    /// Bound to the advertised address, listening.
    pub listener: TcpListener,
    /// Where the node binds.
    pub target: SocketAddr,
}

/// Who is at one end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    Node(String),
    /// The clients of the workload: sockets of this very process, or of its driver program.
    Workload,
    /// The agent's shell and all it started.
    Agent,
    /// Anybody else on this machine; also a socket that was closed before it could be named.
    Outside,
}

/// Names the owner of a connection. Called once per connection, on a thread that may block.
pub trait Owners: Send + Sync {
    /// `peer` is the dialling socket's own address, `local` the advertised address it dialled.
    fn source(&self, peer: SocketAddr, local: SocketAddr) -> Source;
}

/// What the parts of a relay share.
struct Shared {
    owners: Arc<dyn Owners>,
    table: watch::Receiver<Arc<Table>>,
    open: Arc<Mutex<Open>>,
    probes: Probes,
}

/// Open connections by (source, node, port).
type Open = BTreeMap<(Source, String, String), usize>;

/// All links of one trial, served by one thread of their own: forwarding never waits for anything else the runner does.
pub struct Relay {
    gates: Vec<Gate>,
    table: watch::Sender<Arc<Table>>,
    open: Arc<Mutex<Open>>,
    probes: Probes,
    cancel: CancellationToken,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Relay {
    /// Serves `links` until [`Relay::stop`]. Every link passes everything at first.
    ///
    /// # Errors
    /// When a listener cannot be prepared or the thread cannot be started.
    pub fn start(links: Vec<RelayLink>, owners: Arc<dyn Owners>) -> io::Result<Self> {
        let (table, seen) = watch::channel(Arc::new(Table::default()));
        let open = Arc::new(Mutex::new(Open::new()));
        let probes = Probes::default();
        let shared = Arc::new(Shared { owners, table: seen, open: Arc::clone(&open), probes: probes.clone() });
        let cancel = CancellationToken::new();

        let mut gates = Vec::with_capacity(links.len());
        let mut listeners = Vec::with_capacity(links.len());
        for link in links {
            let gate = Gate::new(&link)?;
            listeners.push((link, gate.reopened()));
            gates.push(gate);
        }

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(2)
            .thread_name("relay-names")
            .build()?;
        let (done, ended) = oneshot::channel();
        let stopped = cancel.clone();
        thread::Builder::new().name("relay".into()).spawn(move || {
            runtime.block_on(async {
                for (link, reopened) in listeners {
                    tokio::spawn(accept::serve(link, reopened, Arc::clone(&shared)));
                }
                stopped.cancelled().await;
            });
            // Ends every task, and closes every listener and connection with them.
            drop(runtime);
            let _ = done.send(());
        })?;
        Ok(Self { gates, table, open, probes, cancel, ended: Mutex::new(Some(ended)) })
    }

    /// Puts `rules` in force under `id` (a fault's id), in place of those it had before.
    pub fn put(&self, id: &str, rules: Vec<Rule>) {
        self.table.send_modify(|table| *table = Arc::new(table.with(id, rules)));
    }

    /// Lifts the rules of `id`.
    pub fn remove(&self, id: &str) {
        self.table.send_modify(|table| *table = Arc::new(table.without(id)));
    }

    /// The rules in force under `id`.
    #[must_use]
    pub fn rules(&self, id: &str) -> Vec<Rule> {
        self.table.borrow().of(id).to_vec()
    }

    /// Dials `to`, an advertised address, as a process of `from` would, and waits until the relay has dialled through.
    ///
    /// # Errors
    /// When the connection is refused or reset; it is for the caller to give up while nothing happens.
    pub async fn reach(&self, from: Source, to: SocketAddr) -> io::Result<()> {
        self.probes.reach(from, to).await
    }

    /// From now on the addresses of `node` refuse connections, as those of a dead process do. Open connections are left to the end of
    /// the process itself. Where a listener cannot be suspended a connection is accepted and reset instead.
    pub fn refuse(&self, node: &str) {
        self.gates.iter().filter(|gate| gate.node == node).for_each(Gate::shut);
    }

    /// Undoes [`Relay::refuse`]: to be called before the node's process is started again.
    ///
    /// # Errors
    /// When the system refuses to listen at the address again.
    pub fn admit(&self, node: &str) -> io::Result<()> {
        self.gates.iter().filter(|gate| gate.node == node).try_for_each(Gate::open)
    }

    /// How many connections are open now, by (source, node, port) of the dialled address.
    #[must_use]
    pub fn connections(&self) -> BTreeMap<(Source, String, String), usize> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes every listener and connection. Safe to call again.
    pub async fn stop(&self) {
        self.cancel.cancel();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
        // The gates' duplicates would keep the ports listening, with nobody to accept.
        self.gates.iter().for_each(Gate::shut);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("links", &self.gates.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
