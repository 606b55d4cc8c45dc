//! Links between nodes: every byte that goes to an advertised address passes here.
//!
//! Each (node, port) has one listener, its only advertised address for the whole trial. A connection is *named* when it is
//! accepted, by the owner of the socket that dialled, before a byte of it is forwarded. What may pass is decided by *paths*,
//! one for (sender, receiver, port) over all connections of the pair, whoever dialled; a change of the paths acts at once on
//! connections that are already open.
//!
//! A relay sees a stream, not packets: delays, rates, resets and cuts are honest here, packet loss and reordering are not and
//! are absent.

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

use crate::cluster::harm::{Pinging, Pings};
use crate::cluster::{LinkPath, LinkState};
use alarm::Clock;
use gate::Gate;
use measure::Route;
use path::Table;
use probe::Probes;

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

/// The number of connections that are ours: they take none from those of the nodes.
const PROBE: u64 = u64::MAX;

/// What the parts of a relay share.
struct Shared {
    owners: Arc<dyn Owners>,
    /// Changed on the relay's thread alone: whatever it does next is done by the new paths.
    table: watch::Sender<Arc<Table>>,
    open: Mutex<Open>,
    /// How many connections there were so far.
    numbers: Mutex<BTreeMap<Key, u64>>,
    probes: Probes,
    clock: Arc<Clock>,
}

impl Shared {
    fn number(&self, key: Key) -> u64 {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbers.entry(key).or_default();
        *next += 1;
        *next
    }
}

/// Source, node, and the port that was dialled.
type Key = (Source, String, String);
type Open = BTreeMap<Key, usize>;

/// All links of one trial, served by one thread of their own: forwarding never waits for anything else the runner does.
pub struct Relay {
    gates: Vec<Gate>,
    shared: Arc<Shared>,
    thread: Handle,
    cancel: CancellationToken,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Relay {
    /// Serves `links` until [`Relay::stop`]. Every link passes everything at first.
    ///
    /// # Errors
    /// When a listener cannot be prepared or the thread cannot be started.
    pub fn start(links: Vec<RelayLink>, owners: Arc<dyn Owners>) -> io::Result<Self> {
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
        let clock = {
            let _within = runtime.enter();
            Clock::new()?
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
        thread::Builder::new().name("relay".into()).spawn(move || {
            runtime.block_on(async {
                tokio::spawn(Arc::clone(&shared.clock).ring());
                for (link, reopened) in listeners {
                    tokio::spawn(accept::serve(link, reopened, Arc::clone(&shared)));
                }
                cancel.cancelled().await;
            });
            // Ends every task, and closes every listener and connection with them.
            drop(runtime);
            let _ = done.send(());
        })?;
        *relay.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        Ok(relay)
    }

    /// Does it on the relay's own thread. None: that has ended.
    async fn there<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut task = AbortOnDrop(self.thread.spawn(what));
        (&mut task.0).await.ok()
    }

    /// Puts exactly these paths in force. When it returns every byte that is forwarded passes by them, on open connections too.
    /// False: nothing is forwarded any more.
    pub async fn set(&self, paths: Vec<LinkPath>, seed: u64) -> bool {
        let shared = Arc::clone(&self.shared);
        let set = self.there(async move {
            shared.table.send_modify(|table| *table = Arc::new(table.changed_to(paths, seed)));
        });
        set.await.is_some()
    }

    /// The paths in force, as the thread that forwards has them.
    pub async fn states(&self) -> Vec<LinkState> {
        let shared = Arc::clone(&self.shared);
        self.there(async move { shared.table.borrow().states() }).await.unwrap_or_default()
    }

    /// Round trips between two ends of ours, in the places of two nodes, as connections to that port of `to` fare.
    ///
    /// # Errors
    /// In words, when the connection is reset.
    pub async fn ping(&self, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        let route = Route::new(&self.shared, from, to, port);
        self.there(measure::ping(route, how)).await.ok_or(STOPPED)?
    }

    /// Bytes a second that arrive, the same way.
    ///
    /// # Errors
    /// In words, when the connection is reset.
    pub async fn throughput(&self, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        let route = Route::new(&self.shared, from, to, port);
        self.there(measure::throughput(route, during)).await.ok_or(STOPPED)?
    }

    /// Dials `to`, an advertised address, as a process of `from` would, and waits until the relay has dialled through.
    ///
    /// # Errors
    /// When the connection is refused or reset; it is for the caller to give up while nothing happens.
    pub async fn reach(&self, from: Source, to: SocketAddr) -> io::Result<()> {
        self.shared.probes.reach(from, to).await
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
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

const STOPPED: &str = "nothing is forwarded any more";

/// A measurement ends with the interest in it.
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
