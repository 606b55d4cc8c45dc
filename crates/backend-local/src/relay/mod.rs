//! Relay for the links between nodes: all bytes to an advertised address pass through it.
//!
//! Each (node, port) has one listener, its only advertised address for the whole trial. When a connection is accepted, its source is
//! *identified* by the owner of the dialling socket, before any byte is forwarded. *Paths* decide what may pass, one per (sender, receiver,
//! port) for all connections of the pair in either direction. A change of the paths immediately affects open connections.
//!
//! A relay sees a stream, not packets. It can produce realistic delays, rates, resets and cuts, but not packet loss or reordering, which
//! are therefore absent.

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

/// Advertised address with its target.
#[derive(Debug)]
pub struct RelayLink {
    pub node: String,
    /// Name of the port in the cluster file.
    pub port: String,
    /// Listener bound to the advertised address.
    pub listener: TcpListener,
    /// Address that the node binds.
    pub target: SocketAddr,
}

/// Process at one end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionSource {
    Node(String),
    /// Clients of the workload: sockets of this process, or of its driver program.
    Workload,
    /// Agent's shell and its descendants.
    Agent,
    /// Other processes on this machine, or a socket that was closed before it could be identified.
    Outside,
}

/// Lookup of a connection's owner. Called once per connection, on a thread that may block.
pub trait Owners: Send + Sync {
    /// Returns the source. `peer` is the dialling socket's own address, `local` the advertised address that it dialled.
    fn source(&self, peer: SocketAddr, local: SocketAddr) -> ConnectionSource;
}

/// Number of our own connections, separate from the numbering of the nodes' connections.
const PROBE: u64 = u64::MAX;

/// State shared by the parts of a relay.
struct Shared {
    owners: Arc<dyn Owners>,
    /// Active paths. They are changed only on the relay's thread, so that everything the thread does after a change follows the new paths.
    table: watch::Sender<Arc<Table>>,
    open: Mutex<Open>,
    /// Number of connections so far, by source, node and port.
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

/// Source, node, and dialled port.
type Key = (ConnectionSource, String, String);
type Open = BTreeMap<Key, usize>;

/// All links of one trial, served by a separate thread, so that forwarding never waits for other work of the runner.
pub struct Relay {
    gates: Vec<ConnectionGate>,
    shared: Arc<Shared>,
    thread: Handle,
    cancel: CancellationToken,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Relay {
    /// Serves `links` until [`Relay::stop`]. Initially every link passes everything.
    ///
    /// # Errors
    /// A listener cannot be prepared, or the thread cannot be started.
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
            // Dropping the runtime ends every task, and with the tasks every listener and connection.
            drop(runtime);
            let _ = done.send(());
        })?;
        *relay.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        Ok(relay)
    }

    /// Runs a future on the relay's thread. Returns `None` if the thread has ended.
    async fn there<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut task = AbortOnDrop(self.thread.spawn(task::watched(what)));
        (&mut task.0).await.ok()
    }

    /// Sets exactly these paths. On return they apply to every forwarded byte, also on open connections. Returns false if the relay has
    /// ended.
    pub async fn set(&self, paths: Vec<LinkPath>, seed: u64) -> bool {
        let shared = Arc::clone(&self.shared);
        let set = self.there(async move {
            shared.table.send_modify(|table| *table = Arc::new(table.changed_to(paths, seed)));
        });
        set.await.is_some()
    }

    /// Returns the active paths, as the forwarding thread has them.
    pub async fn states(&self) -> Vec<LinkState> {
        let shared = Arc::clone(&self.shared);
        self.there(async move { shared.table.borrow().states() }).await.unwrap_or_default()
    }

    /// Measures round trips between two ends of our own, which replace two nodes. The pings are treated like connections to this port of
    /// `to`.
    ///
    /// # Errors
    /// A message, if the connection is reset.
    pub async fn ping(&self, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        let route = MeasuredRoute::new(&self.shared, from, to, port);
        self.there(measure::ping(route, how)).await.ok_or(STOPPED)?
    }

    /// Measures arriving bytes per second between the same ends as [`Relay::ping`].
    ///
    /// # Errors
    /// A message, if the connection is reset.
    pub async fn throughput(&self, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        let route = MeasuredRoute::new(&self.shared, from, to, port);
        self.there(measure::throughput(route, during)).await.ok_or(STOPPED)?
    }

    /// Dials the advertised address `to` as a process of `from` would. Returns when the relay has connected to the target.
    ///
    /// # Errors
    /// The connection is refused or reset. The caller has to limit the wait.
    pub async fn reach(&self, from: ConnectionSource, to: SocketAddr) -> io::Result<()> {
        self.shared.probes.reach(from, to).await
    }

    /// Makes the addresses of `node` refuse connections, like those of a dead process. Open connections end with the process itself. If a
    /// listener cannot be suspended, connections are accepted and reset instead.
    pub fn refuse(&self, node: &str) {
        self.gates.iter().filter(|gate| gate.node == node).for_each(ConnectionGate::shut);
    }

    /// Reverts [`Relay::refuse`]. Must be called before the node's process is started again.
    ///
    /// # Errors
    /// The system does not allow to listen at the address again.
    pub fn admit(&self, node: &str) -> io::Result<()> {
        self.gates.iter().filter(|gate| gate.node == node).try_for_each(ConnectionGate::open)
    }

    /// Returns the number of open connections, by (source, node, port) of the dialled address.
    #[must_use]
    pub fn connections(&self) -> BTreeMap<(ConnectionSource, String, String), usize> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes every listener and connection. Can be called repeatedly.
    pub async fn stop(&self) {
        self.cancel.cancel();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
        // The gates' duplicates would keep the ports listening, without a task that accepts.
        self.gates.iter().for_each(ConnectionGate::shut);
    }
}

const STOPPED: &str = "nothing is forwarded any more";

/// Measurement task, aborted when its result is not needed any more.
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
