//! What the engine knows: this trial's nodes under the names and ids that an agent sees.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt;
use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audit::Audit;
use super::exec::Execs;
use super::problem::Problem;
use super::route::{API_VERSION, Route};
use super::times::Clock;
use super::{archive, describe, events, exec, lifecycle, logs, stats, system};
use crate::cluster::{Cluster, ClusterError, NodeStatus, Placed};
use crate::emit::Emitter;
use crate::event::NodeState;

/// Bytes of a request's body; and of one that is refused anyway, such as the files of a build.
const BODY_LIMIT: usize = 1024 * 1024;
const DROPPED_LIMIT: usize = 256 * 1024 * 1024;

/// How a node looks from outside. Nothing here may tell an agent what it is tested with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    pub image: String,
    /// What `docker ps` shows as the command.
    pub command: Vec<String>,
    /// Between SIGTERM and SIGKILL when `stop` and `restart` name no time.
    pub stop_grace: Duration,
}

impl Face {
    /// Names from the role alone: image `<role>:local`, command `<role>`, the engine's own 10 s.
    #[must_use]
    pub fn neutral(node: &Placed) -> Self {
        Self { image: format!("{}:local", node.role), command: vec![node.role.clone()], stop_grace: Duration::from_secs(10) }
    }
}

/// How a mediator is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; at most about 100 bytes long, as unix sockets allow no more. Agents see this path.
    pub socket: PathBuf,
    /// What container ids are derived from, so that they tell nothing.
    pub secret: String,
    /// Faces by node name; nodes without one get [`Face::neutral`].
    pub faces: IndexMap<String, Face>,
}

impl Settings {
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>, secret: impl Into<String>) -> Self {
        Self { socket: socket.into(), secret: secret.into(), faces: IndexMap::new() }
    }
}

/// A node under its id.
#[derive(Debug, Clone)]
pub(super) struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Of the image, `sha256:...`.
    pub image_id: String,
    pub node: Placed,
    pub face: Face,
}

/// Shared by all connections. Immutable but for the execs, which are few.
pub(super) struct Engine {
    pub cluster: Arc<dyn Cluster>,
    pub emitter: Emitter,
    pub containers: Vec<Container>,
    pub clock: Clock,
    pub logs: logs::Index,
    pub history: events::History,
    pub execs: Execs,
    pub network_id: String,
    pub token: CancellationToken,
    pub tasks: TaskTracker,
}

/// An id of 64 hex digits that can only be guessed by who knows the secret.
pub(super) fn opaque(secret: &str, what: &str, name: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [secret, what, name] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

pub(super) fn containers(cluster: &dyn Cluster, settings: &Settings) -> Vec<Container> {
    let topology = cluster.topology();
    let container = |node: &Placed| {
        let face = settings.faces.get(&node.name).cloned().unwrap_or_else(|| Face::neutral(node));
        Container {
            id: opaque(&settings.secret, "container", &node.name),
            image_id: format!("sha256:{}", opaque(&settings.secret, "image", &face.image)),
            node: node.clone(),
            face,
        }
    };
    topology.nodes.iter().map(container).collect()
}

impl Engine {
    /// By name (with or without its slash), by id, or by the beginning of one id.
    pub fn find(&self, text: &str) -> Result<&Container, Problem> {
        let name = text.strip_prefix('/').unwrap_or(text);
        if let Some(found) = self.containers.iter().find(|container| container.node.name == name) {
            return Ok(found);
        }
        let mut matches = self.containers.iter().filter(|container| !text.is_empty() && container.id.starts_with(text));
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(Problem::bad_request(format!("multiple IDs found with provided prefix: {text}"))),
            _ => Err(Problem::no_such_container(text)),
        }
    }

    pub fn status(&self, node: &str) -> NodeStatus {
        self.cluster.status().into_iter().find(|status| status.node == node).unwrap_or_else(|| NodeStatus {
            node: node.into(),
            state: NodeState::Created,
            pid: None,
            starts: 0,
            since: Duration::ZERO,
        })
    }

    /// Answers one request and records it. Pings are the handshake of every client, not a call on the cluster: they
    /// are not recorded, so that a record does not depend on which client made it.
    pub async fn handle(self: Arc<Self>, request: Request<Body>) -> Response {
        let uri = request.uri().clone();
        let query = uri.query().unwrap_or_default();
        // In one order, so that a record does not depend on which client made the call.
        let mut ordered: Vec<&str> = query.split('&').collect();
        ordered.sort_unstable();
        let route = match Route::parse(request.method(), uri.path()) {
            Ok(route) => route,
            Err(problem) => {
                let mut audit = Audit::new(self.emitter.clone(), Route::Refused.verb());
                audit.detail(format!("{} {}", request.method(), uri.path()));
                audit.finish(problem.status);
                return dressed(problem.into_response());
            }
        };
        if route == Route::Ping {
            return dressed(system::ping(request.method()));
        }
        let mut audit = Audit::new(self.emitter.clone(), route.verb());
        audit.detail(ordered.join("&"));
        // Also when nobody wants it: a client that is still writing would miss the answer.
        let request = match whole(request, route == Route::Refused).await {
            Ok(request) => request,
            Err(problem) => {
                audit.finish(problem.status);
                return dressed(problem.into_response());
            }
        };
        let answer = match route {
            Route::Lifecycle(verb, name) => return dressed(lifecycle::perform(self, verb, name, query, audit).await),
            Route::Ping => Ok(system::ping(request.method())),
            Route::Version => Ok(system::version()),
            Route::Info => Ok(system::info(&self)),
            Route::List => describe::list(&self, query),
            Route::Inspect(name) => self.on(&name, &mut audit).map(|container| describe::inspect(&self, container)),
            Route::Logs(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => logs::serve(&self, &container, query),
                Err(problem) => Err(problem),
            },
            Route::Stats(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => stats::stats(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            Route::Top(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => stats::top(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            Route::Events => events::serve(&self, query),
            Route::Wait(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => lifecycle::wait(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            Route::Archive(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => archive::serve(&self, &container, request.method(), query, request.body(), &mut audit).await,
                Err(problem) => Err(problem),
            },
            Route::ExecCreate(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => exec::create(&self, &container, request.body(), &mut audit),
                Err(problem) => Err(problem),
            },
            Route::ExecStart(id) => exec::start(&self, &id, request, &mut audit),
            Route::ExecResize(id) => exec::resize(&self, &id, query, &mut audit).await,
            Route::ExecInspect(id) => exec::inspect(&self, &id, &mut audit),
            Route::Absent(kind, name) => {
                audit.detail(format!("{kind} {name}"));
                Err(Problem::new(StatusCode::NOT_FOUND, format!("No such {kind}: {name}")))
            }
            Route::Refused => {
                audit.detail(format!("{} {}", request.method(), uri));
                Err(Problem::refused(request.method().as_str(), uri.path()))
            }
        };
        let response = answer.unwrap_or_else(IntoResponse::into_response);
        audit.finish(response.status());
        dressed(response)
    }

    /// The container that a request names, noted in its record whether it exists or not.
    pub fn on(&self, text: &str, audit: &mut Audit) -> Result<&Container, Problem> {
        let found = self.find(text);
        match &found {
            Ok(container) => audit.node(&container.node.name),
            Err(_) => audit.detail(text),
        }
        found
    }

    /// The cluster's own words may name the runner's files: they go to the record, the agent gets `outward`.
    pub fn failed(&self, error: &ClusterError, id: &str, outward: &str) -> Problem {
        match error {
            ClusterError::NoSuchNode(node) => Problem::no_such_container(node),
            ClusterError::Conflict { problem, .. } => Problem::conflict(format!("Container {id} {problem}")),
            ClusterError::NotReady { .. }
            | ClusterError::Start { .. }
            | ClusterError::Template(_)
            | ClusterError::Io { .. }
            | ClusterError::Supervisor(_)
            | ClusterError::Engine(_) => {
                self.emitter.warn(format!("a call on the engine failed: {error}"));
                Problem::internal(outward)
            }
        }
    }
}

/// The request with its body read; with `drop`, read and thrown away.
async fn whole(request: Request<Body>, drop: bool) -> Result<Request<Bytes>, Problem> {
    let (parts, mut body) = request.into_parts();
    let mut kept = BytesMut::new();
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        size += data.len();
        if size > if drop { DROPPED_LIMIT } else { BODY_LIMIT } {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
        }
        if !drop {
            kept.extend_from_slice(data);
        }
    }
    Ok(Request::from_parts(parts, kept.freeze()))
}

/// The headers that every answer of an engine carries.
fn dressed(mut response: Response) -> Response {
    let version = format!("{}.{}", API_VERSION.0, API_VERSION.1);
    let headers = response.headers_mut();
    for (name, value) in [("api-version", version.as_str()), ("docker-experimental", "false"), ("ostype", "linux")] {
        if let Ok(value) = header::HeaderValue::from_str(value) {
            headers.insert(header::HeaderName::from_static(name), value);
        }
    }
    headers.insert(header::SERVER, header::HeaderValue::from_static(concat!("Docker/", "20.10.24", " (linux)")));
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    status.into_response()
}
