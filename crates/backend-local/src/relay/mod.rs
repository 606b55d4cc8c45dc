//! Relay for the links between nodes: all bytes to an advertised address pass through it.
//!
//! Each (node, port) has one listener, which owns the only advertised address of the port for the whole trial. After a connection is
//! accepted, the relay identifies its source by the owner of the dialling socket, before any byte is forwarded. *Paths* decide which bytes
//! may pass. One path exists per (sender, receiver, port), for all connections between the two nodes in either direction. A change of the
//! paths immediately affects open connections.
//!
//! A relay forwards byte streams, not packets. It can produce realistic delays, rates, resets and cuts. It cannot produce packet loss or
//! reordering, so it offers neither.

mod accept;
mod alarm;
mod connection;
mod gate;
mod measure;
pub mod owner;
mod path;
mod probe;
mod pump;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use alarm::AlarmClock;
use chaosrun_base::task;
use chaosrun_cluster::fault_control::{Pinging, Pings};
use chaosrun_cluster::{LinkPath, LinkState};
use gate::ConnectionGate;
use measure::MeasuredRoute;
use path::Table;
use probe::Probes;

/// Link of the relay: the listener at an advertised address, and the target address of the node.
#[derive(Debug)]
pub struct RelayLink {
    pub node: String,
    /// Name of the port in the cluster file.
    pub port: String,
    /// Listener that is bound to the advertised address.
    pub listener: TcpListener,
    /// Address that the process of the node binds.
    pub target: SocketAddr,
}

/// Source of a connection: the kind of process that dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionSource {
    Node(String),
    /// Clients of the workload: sockets of this process, or of its workload driver program.
    Workload,
    /// Shell of the agent, or a descendant of this shell.
    Agent,
    /// Other process on this machine, or a socket that was closed before its owner could be identified.
    Outside,
}

/// Lookup of the owner of a connection. The relay calls the lookup once per connection, on a thread that may block.
pub trait Owners: Send + Sync {
    /// Returns the source of a connection. `peer` is the address of the dialling socket, `local` the advertised address that was dialled.
    fn source(&self, peer: SocketAddr, local: SocketAddr) -> ConnectionSource;
}

/// Connection number of all connections of measurements, which is outside the numbers of the connections of nodes.
const PROBE: u64 = u64::MAX;

/// State that all tasks of a relay share.
struct Shared {
    owners: Arc<dyn Owners>,
    /// Active paths. Only the thread of the relay changes them, so all work of this thread after a change uses the new paths.
    table: watch::Sender<Arc<Table>>,
    open: Mutex<Open>,
    /// Number of connections since the start of the relay, by source, node and port.
    numbers: Mutex<BTreeMap<Key, u64>>,
    probes: Probes,
    clock: Arc<AlarmClock>,
}

impl Shared {
    fn number(&self, key: Key) -> u64 {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbers.entry(key).or_default();
        *next += 1;
        *next
    }
}

/// Source of a connection, with the dialled node and port.
type Key = (ConnectionSource, String, String);
type Open = BTreeMap<Key, usize>;

/// Relay of one trial. A separate thread serves all links, so that forwarding never waits for other work of the runner.
pub struct Relay {
    gates: Vec<ConnectionGate>,
    shared: Arc<Shared>,
    thread: Handle,
    cancel: CancellationToken,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Relay {
    /// Starts a relay that serves `links` until [`Relay::stop`]. Initially every link passes all bytes.
    ///
    /// # Errors
    /// Returns an error if a listener cannot be prepared, or if the thread cannot be started.
    pub fn start(links: Vec<RelayLink>, owners: Arc<dyn Owners>) -> io::Result<Self> {
        let cancel = CancellationToken::new();

        let mut gates = Vec::with_capacity(links.len());
        let mut listeners = Vec::with_capacity(links.len());
        for link in links {
            let gate = ConnectionGate::new(&link)?;
            listeners.push((link, gate.reopened()));
            gates.push(gate);
        }

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(2)
            .thread_name("relay-names")
            .build()?;
        let clock = {
            let _within = runtime.enter();
            AlarmClock::new()?
        };
        let shared = Arc::new(Shared {
            owners,
            table: watch::Sender::default(),
            open: Mutex::default(),
            numbers: Mutex::default(),
            probes: Probes::default(),
            clock,
        });
        let relay =
            Self { gates, shared: Arc::clone(&shared), thread: runtime.handle().clone(), cancel: cancel.clone(), ended: Mutex::default() };
        let (done, ended) = oneshot::channel();
        let forwarding = task::watched(async move {
            task::spawn(Arc::clone(&shared.clock).ring());
            for (link, reopened) in listeners {
                task::spawn(accept::serve(link, reopened, Arc::clone(&shared)));
            }
            cancel.cancelled().await;
        });
        thread::Builder::new().name("relay".into()).spawn(move || {
            runtime.block_on(forwarding);
            // Dropping the runtime drops every task, and thereby every listener and connection.
            drop(runtime);
            let _ = done.send(());
        })?;
        *relay.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        Ok(relay)
    }

    /// Runs a future on the thread of the relay. Returns `None` if the thread has ended.
    async fn there<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut task = AbortOnDrop(self.thread.spawn(task::watched(what)));
        (&mut task.0).await.ok()
    }

    /// Replaces all active paths by `paths`. On return the new paths apply to every forwarded byte, also on open connections. Returns false
    /// if the relay has ended.
    pub async fn set(&self, paths: Vec<LinkPath>, seed: u64) -> bool {
        let shared = Arc::clone(&self.shared);
        let set = self.there(async move {
            shared.table.send_modify(|table| *table = Arc::new(table.changed_to(paths, seed)));
        });
        set.await.is_some()
    }

    /// Returns the states of the active paths, read on the thread that forwards bytes.
    pub async fn states(&self) -> Vec<LinkState> {
        let shared = Arc::clone(&self.shared);
        self.there(async move { shared.table.borrow().states() }).await.unwrap_or_default()
    }

    /// Measures round trips between two in-memory ends, which represent the nodes `from` and `to`. The pings are treated like bytes of
    /// connections to the given port of `to`.
    ///
    /// # Errors
    /// Returns a message if the connection is reset.
    pub async fn ping(&self, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        let route = MeasuredRoute::new(&self.shared, from, to, port);
        self.there(measure::ping(route, how)).await.ok_or(STOPPED)?
    }

    /// Measures the bytes per second that arrive at `to`, between the same ends as [`Relay::ping`].
    ///
    /// # Errors
    /// Returns a message if the connection is reset.
    pub async fn throughput(&self, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        let route = MeasuredRoute::new(&self.shared, from, to, port);
        self.there(measure::throughput(route, during)).await.ok_or(STOPPED)?
    }

    /// Dials the advertised address `to` as a process of `from` would. Returns when the relay has connected to the target.
    ///
    /// # Errors
    /// Returns an error if the connection is refused or reset. The caller has to limit the time of this call.
    pub async fn reach(&self, from: ConnectionSource, to: SocketAddr) -> io::Result<()> {
        self.shared.probes.reach(from, to).await
    }

    /// Makes the addresses of `node` refuse connections, like those of a dead process. Open connections end with the process itself. If a
    /// listener cannot be suspended, the relay accepts and resets connections instead.
    pub fn refuse(&self, node: &str) {
        self.gates.iter().filter(|gate| gate.node == node).for_each(ConnectionGate::shut);
    }

    /// Reverts [`Relay::refuse`], so that the addresses of `node` accept connections. Must be called before the process of the node is
    /// started again.
    ///
    /// # Errors
    /// Returns an error if the system does not allow listening at the address again.
    pub fn admit(&self, node: &str) -> io::Result<()> {
        self.gates.iter().filter(|gate| gate.node == node).try_for_each(ConnectionGate::open)
    }

    /// Returns the numbers of open connections, by source, dialled node and dialled port.
    #[must_use]
    pub fn connections(&self) -> BTreeMap<(ConnectionSource, String, String), usize> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes every listener and connection. May be called repeatedly.
    pub async fn stop(&self) {
        self.cancel.cancel();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
        // The duplicated sockets of the gates would keep the ports listening, although no task accepts connections.
        self.gates.iter().for_each(ConnectionGate::shut);
    }
}

const STOPPED: &str = "nothing is forwarded any more";

/// Guard of a measurement task, which aborts the task when the guard is dropped.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
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
