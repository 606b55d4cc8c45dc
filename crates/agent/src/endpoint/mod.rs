//! Endpoints served to an external agent: models without their keys, a proxy to the endpoints that its variant names, and the
//! tools.
//!
//! Each endpoint is an address on the agent's own loopback. Connections reach the runner through the port forwarder of the
//! sandbox. Bytes to and from models pass unchanged, except for the key, which is added here. The cost is counted while the bytes
//! pass.

mod ask;
mod models;
mod problem;

mod budget;
mod exchange;
mod server;
mod tap;

mod relay;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::cost::LostTime;
use super::mcp::Offer;
pub use super::mcp::ToolUse;
use chaosrun_cluster::Service;
use chaosrun_event::emit::Emitter;
use chaosrun_models::cassette::Tape;
use chaosrun_models::{CostMeter, Spent};
use chaosrun_scenario::model::{ClusterSpec, CommandSpec, Limits, Wire};
use models::{Models, Outage};
use relay::EndpointRelay;

/// Ports of the model, proxy and tool endpoints on a loopback interface that only the agent uses.
const PORTS: [u16; 3] = [8001, 8002, 8003];
/// Capacity of the queue of tool calls from the agent to the loop.
const CALLS: usize = 16;

/// All endpoints that are served to one agent.
#[derive(Clone)]
pub struct Served(Arc<Inner>);

struct Inner {
    pub models: Arc<Models>,
    relay: Arc<EndpointRelay>,
    offer: Offer,
    /// Listening addresses of the model endpoint, the proxy and the tool endpoint.
    addresses: [SocketAddr; 3],
    calls: Mutex<Option<mpsc::Receiver<ToolUse>>>,
}

/// Parameters of [`Served::open`] in addition to the variant's settings.
pub struct Opening {
    pub limits: Limits,
    pub emitter: Emitter,
    /// Run directory of the trial. The full text of each request is saved there in a file such as `models/3.json`.
    pub run_dir: PathBuf,
    /// True if the agent runs in a sandbox with its own loopback interface.
    pub sandbox: bool,
    pub tape: Tape,
    /// Cluster whose actions the tool `act` offers.
    pub cluster: Arc<ClusterSpec>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("addresses", &self.0.addresses).finish_non_exhaustive()
    }
}

impl Served {
    /// Creates the endpoints of an agent.
    ///
    /// # Errors
    /// A key, a server address or the trusted certificates are missing. The error is one sentence.
    pub fn open(spec: &CommandSpec, opening: Opening) -> Result<Self, String> {
        let addresses = if opening.sandbox {
            PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        } else {
            free().map_err(|error| format!("no free port on this machine: {error}"))?
        };
        let (give, calls) = mpsc::channel(CALLS);
        let relay = Arc::new(EndpointRelay { endpoints: spec.endpoints.clone(), emitter: opening.emitter.clone() });
        let offer = Offer::new(&spec.tools, &opening.cluster, give);
        let models = Arc::new(Models::new(&spec.models, opening)?);
        Ok(Self(Arc::new(Inner { models, relay, offer, addresses, calls: Mutex::new(Some(calls)) })))
    }

    /// Returns the endpoints as services that the agent's sandbox forwards to the runner.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        let [models, endpoints, tools] = self.0.addresses;
        let (of_models, relay, offer) = (Arc::clone(&self.0.models), Arc::clone(&self.0.relay), self.0.offer.clone());
        vec![
            Service {
                address: models,
                serve: Arc::new(move |stream| {
                    let models = Arc::clone(&of_models);
                    Box::pin(http(stream, move |request| Arc::clone(&models).answer(request)))
                }),
            },
            Service {
                address: endpoints,
                serve: Arc::new(move |stream| {
                    let relay = Arc::clone(&relay);
                    Box::pin(http(stream, move |request| Arc::clone(&relay).answer(request)))
                }),
            },
            Service { address: tools, serve: Arc::new(move |stream| Box::pin(offer.clone().serve(stream))) },
        ]
    }

    #[must_use]
    pub fn models(&self) -> SocketAddr {
        self.0.addresses[0]
    }

    #[must_use]
    pub fn proxy(&self) -> SocketAddr {
        self.0.addresses[1]
    }

    #[must_use]
    pub fn tools(&self) -> SocketAddr {
        self.0.addresses[2]
    }

    /// Returns true if the agent has a model with this wire format.
    #[must_use]
    pub fn serves(&self, wire: Wire) -> bool {
        self.0.models.serves(wire)
    }

    #[must_use]
    pub fn meter(&self) -> &Arc<CostMeter> {
        &self.0.models.meter
    }

    #[must_use]
    pub fn spent(&self) -> Spent {
        self.meter().spent()
    }

    /// Returns a receiver for the name of the exceeded limit. Its value is set when a limit refuses a request.
    pub(super) fn refused(&self) -> watch::Receiver<Option<String>> {
        self.0.models.refused.subscribe()
    }

    /// Waits until all recorded exchanges are in the cassette file.
    ///
    /// # Errors
    /// An exchange could not be written to the cassette file.
    pub(super) fn close(&self) -> Result<(), String> {
        self.0.models.tape.close()
    }

    /// Returns true if a replayed cassette had no answer to a request.
    pub(super) fn cassette_failed(&self) -> bool {
        self.0.models.cassette_failed.load(Ordering::Relaxed)
    }

    /// Returns the error of the last exchange with a model. Returns `None` if the exchange succeeded or failed through the agent's fault.
    pub(super) fn failure(&self) -> Option<String> {
        self.outage().map(|outage| outage.why)
    }

    fn outage(&self) -> Option<Outage> {
        self.0.models.outage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the total time lost to failing or silent models so far.
    pub(super) fn kept_waiting(&self) -> Option<LostTime> {
        let (lost, why) = self.0.models.meter.delayed();
        match self.outage() {
            Some(Outage { since, why }) => Some(LostTime { lost: lost + since.elapsed(), why }),
            None => (lost > Duration::ZERO).then_some(LostTime { lost, why }),
        }
    }

    /// Takes the receiver of tool calls, which the agent loop reads. Returns `None` if it was taken before.
    pub(super) fn calls(&self) -> Option<mpsc::Receiver<ToolUse>> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Returns loopback addresses with three currently unused ports.
fn free() -> std::io::Result<[SocketAddr; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let [a, b, c] = listeners.map(|listener| listener.and_then(|listener| listener.local_addr()));
    Ok([a?, b?, c?])
}

/// Serves HTTP requests on one connection.
async fn http<F: Future<Output = Response<Body>> + Send + 'static>(
    stream: UnixStream,
    answer: impl Fn(Request<Body>) -> F + Send + 'static,
) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answered = answer(request.map(Body::new));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).with_upgrades();
    // Broken connections concern only the client.
    let _ = connection.await;
}
