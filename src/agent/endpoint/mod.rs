//! What is served to an agent that is a program: models without their keys, the way to the endpoints that its variant names,
//! and our own tools.
//!
//! Each is an address of the agent's own loopback; its connections come to the runner through the door of the sandbox. Bytes to
//! and from models pass unchanged, but for the key, which is added here; what they cost is counted as they pass.

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

use super::mcp::Offer;
pub use super::mcp::ToolUse;
use super::model::cassette::Tape;
use super::model::{Meter, Spent};
use super::provider::Kept;
use crate::cluster::Service;
use crate::emit::Emitter;
use crate::scenario::model::{Cluster, CommandSpec, Limits, Wire};
use models::{Models, Outage};
use relay::Relay;

/// Ports of a loopback that is the agent's alone.
const PORTS: [u16; 3] = [8001, 8002, 8003];
/// Calls of tools that wait for their turn.
const CALLS: usize = 16;

/// All that is served to one agent.
#[derive(Clone)]
pub struct Served(Arc<Inner>);

struct Inner {
    pub models: Arc<Models>,
    relay: Arc<Relay>,
    offer: Offer,
    /// Models, endpoints, tools.
    addresses: [SocketAddr; 3],
    calls: Mutex<Option<mpsc::Receiver<ToolUse>>>,
}

/// What it is opened with, beside the variant.
pub struct Opening {
    pub limits: Limits,
    pub emitter: Emitter,
    /// Where whole requests are kept: `models/3.json` below it.
    pub run_dir: PathBuf,
    /// Whether the agent has a loopback of its own.
    pub sandbox: bool,
    pub tape: Tape,
    /// The cluster, whose actions the tool `act` offers.
    pub cluster: Arc<Cluster>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("addresses", &self.0.addresses).finish_non_exhaustive()
    }
}

impl Served {
    /// # Errors
    /// In one sentence: no key, no address, no certificates.
    pub fn open(spec: &CommandSpec, opening: Opening) -> Result<Self, String> {
        let addresses = if opening.sandbox {
            PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        } else {
            free().map_err(|error| format!("no port of this machine is free: {error}"))?
        };
        let (give, calls) = mpsc::channel(CALLS);
        let relay = Arc::new(Relay { endpoints: spec.endpoints.clone(), emitter: opening.emitter.clone() });
        let offer = Offer::new(&spec.tools, &opening.cluster, give);
        let models = Arc::new(Models::new(&spec.models, opening)?);
        Ok(Self(Arc::new(Inner { models, relay, offer, addresses, calls: Mutex::new(Some(calls)) })))
    }

    /// What the agent's place is to serve.
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

    /// Whether models of that wire are served.
    #[must_use]
    pub fn serves(&self, wire: Wire) -> bool {
        self.0.models.serves(wire)
    }

    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.0.models.meter
    }

    #[must_use]
    pub fn spent(&self) -> Spent {
        self.meter().spent()
    }

    /// The limit on what costs something that kept a model from being asked, once one has.
    pub(super) fn refused(&self) -> watch::Receiver<Option<String>> {
        self.0.models.refused.subscribe()
    }

    /// Waits until all that was recorded is in the file.
    ///
    /// # Errors
    /// When not all could be written.
    pub(super) fn close(&self) -> Result<(), String> {
        self.0.models.tape.close()
    }

    /// Whether a cassette had no answer.
    pub(super) fn cassette_failed(&self) -> bool {
        self.0.models.cassette_failed.load(Ordering::Relaxed)
    }

    /// Why the last exchange with a model came to nothing, when that was no fault of who asked.
    pub(super) fn failure(&self) -> Option<String> {
        self.outage().map(|outage| outage.why)
    }

    fn outage(&self) -> Option<Outage> {
        self.0.models.outage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What outages of models have taken of the time so far.
    pub(super) fn kept_waiting(&self) -> Option<Kept> {
        let (lost, why) = self.0.models.meter.delayed();
        match self.outage() {
            Some(Outage { since, why }) => Some(Kept { lost: lost + since.elapsed(), why }),
            None => (lost > Duration::ZERO).then_some(Kept { lost, why }),
        }
    }

    /// The calls of tools, for whoever carries them out.
    pub(super) fn calls(&self) -> Option<mpsc::Receiver<ToolUse>> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Ports that nobody listens on now.
fn free() -> std::io::Result<[SocketAddr; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let [a, b, c] = listeners.map(|listener| listener.and_then(|listener| listener.local_addr()));
    Ok([a?, b?, c?])
}

/// Serves one connection.
async fn http<F: Future<Output = Response<Body>> + Send + 'static>(
    stream: UnixStream,
    answer: impl Fn(Request<Body>) -> F + Send + 'static,
) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answered = answer(request.map(Body::new));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).with_upgrades();
    // A connection that breaks is its client's affair.
    let _ = connection.await;
}
