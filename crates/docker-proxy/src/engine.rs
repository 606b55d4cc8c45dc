//! State of the docker proxy: the nodes of this trial under the names and ids that an agent sees.

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

use super::audit::Audit;
use super::exec::Execs;
use super::problem::EngineProblem;
use super::route::{API_VERSION, ProxyRoute};
use super::times::ClockReader;
use super::{archive, describe, events, exec, lifecycle, logs, stats, system};
use chaosrun_base::task::Tasks;
use chaosrun_cluster::{Cluster, ClusterError, NodeStatus, PlacedNode};
use chaosrun_event::NodeState;
use chaosrun_event::emit::Emitter;

/// Largest body of a request in bytes.
const BODY_LIMIT: usize = 1024 * 1024;
/// Largest body, in bytes, of a request that is refused in any case, such as the files of a build.
const DROPPED_LIMIT: usize = 256 * 1024 * 1024;

/// Node as an agent sees it. The view must not reveal what the agent is tested with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    pub image: String,
    /// Command shown by `docker ps`.
    pub command: Vec<String>,
    /// Time between SIGTERM and SIGKILL if `stop` or `restart` specifies none.
    pub stop_grace: Duration,
}

impl ContainerView {
    /// Returns the view derived from the role alone: image `<role>:local`, command `<role>`, the engine's default grace of 10 s.
    #[must_use]
    pub fn neutral(node: &PlacedNode) -> Self {
        Self { image: format!("{}:local", node.role), command: vec![node.role.clone()], stop_grace: Duration::from_secs(10) }
    }
}

/// Settings of a docker proxy.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Path of the socket, which agents see. At most about 100 bytes, the limit for unix sockets.
    pub socket: PathBuf,
    /// Secret from which container ids are derived, so that they reveal nothing.
    pub secret: String,
    /// Views by node name; nodes without one get [`ContainerView::neutral`].
    pub faces: IndexMap<String, ContainerView>,
}

impl ProxySettings {
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>, secret: impl Into<String>) -> Self {
        Self { socket: socket.into(), secret: secret.into(), faces: IndexMap::new() }
    }
}

/// Node with its container id.
#[derive(Debug, Clone)]
pub(super) struct Container {
    /// Container id of 64 hex digits.
    pub id: String,
    /// Id of the image, `sha256:...`.
    pub image_id: String,
    pub node: PlacedNode,
    pub face: ContainerView,
}

/// State shared by all connections. Immutable except for the few execs.
pub(super) struct ProxyState {
    pub cluster: Arc<dyn Cluster>,
    pub emitter: Emitter,
    pub containers: Vec<Container>,
    pub clock: ClockReader,
    pub logs: logs::Index,
    pub history: events::EventHistory,
    pub execs: Execs,
    pub network_id: String,
    pub token: CancellationToken,
    pub tasks: Tasks,
}

/// Derives an id of 64 hex digits that cannot be guessed without the secret.
pub(super) fn opaque(secret: &str, what: &str, name: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [secret, what, name] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

pub(super) fn containers(cluster: &dyn Cluster, settings: &ProxySettings) -> Vec<Container> {
    let topology = cluster.topology();
    let container = |node: &PlacedNode| {
        let face = settings.faces.get(&node.name).cloned().unwrap_or_else(|| ContainerView::neutral(node));
        Container {
            id: opaque(&settings.secret, "container", &node.name),
            image_id: format!("sha256:{}", opaque(&settings.secret, "image", &face.image)),
            node: node.clone(),
            face,
        }
    };
    topology.nodes.iter().map(container).collect()
}

impl ProxyState {
    /// Finds a container by name (with or without a leading slash), by id, or by an unambiguous prefix of an id.
    pub fn find(&self, text: &str) -> Result<&Container, EngineProblem> {
        let name = text.strip_prefix('/').unwrap_or(text);
        if let Some(found) = self.containers.iter().find(|container| container.node.name == name) {
            return Ok(found);
        }
        let mut matches = self.containers.iter().filter(|container| !text.is_empty() && container.id.starts_with(text));
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(EngineProblem::bad_request(format!("multiple IDs found with provided prefix: {text}"))),
            _ => Err(EngineProblem::no_such_container(text)),
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

    /// Answers one request and records it. Pings are not recorded: they are the handshake of a client, not a call on the cluster, and
    /// records must not depend on the kind of client.
    pub async fn handle(self: Arc<Self>, request: Request<Body>) -> Response {
        let uri = request.uri().clone();
        let query = uri.query().unwrap_or_default();
        // Sorted, so that a record does not depend on the client's order of parameters.
        let mut ordered: Vec<&str> = query.split('&').collect();
        ordered.sort_unstable();
        let route = match ProxyRoute::parse(request.method(), uri.path()) {
            Ok(route) => route,
            Err(problem) => {
                let mut audit = Audit::new(self.emitter.clone(), ProxyRoute::Refused.verb());
                audit.detail(format!("{} {}", request.method(), uri.path()));
                audit.finish(problem.status);
                return dressed(problem.into_response());
            }
        };
        if route == ProxyRoute::Ping {
            return dressed(system::ping(request.method()));
        }
        let mut audit = Audit::new(self.emitter.clone(), route.verb());
        audit.detail(ordered.join("&"));
        // The body is read even if it is not needed: a client that is still writing would miss the answer.
        let request = match whole(request, route == ProxyRoute::Refused).await {
            Ok(request) => request,
            Err(problem) => {
                audit.finish(problem.status);
                return dressed(problem.into_response());
            }
        };
        let answer = match route {
            ProxyRoute::Lifecycle(verb, name) => return dressed(lifecycle::perform(self, verb, name, query, audit).await),
            ProxyRoute::Ping => Ok(system::ping(request.method())),
            ProxyRoute::Version => Ok(system::version()),
            ProxyRoute::Info => Ok(system::info(&self)),
            ProxyRoute::List => describe::list(&self, query),
            ProxyRoute::Inspect(name) => self.on(&name, &mut audit).map(|container| describe::inspect(&self, container)),
            ProxyRoute::Logs(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => logs::serve(&self, &container, query),
                Err(problem) => Err(problem),
            },
            ProxyRoute::Stats(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => stats::stats(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            ProxyRoute::Top(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => stats::top(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            ProxyRoute::Events => events::serve(&self, query),
            ProxyRoute::Wait(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => lifecycle::wait(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            ProxyRoute::Archive(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => archive::serve(&self, &container, request.method(), query, request.body(), &mut audit).await,
                Err(problem) => Err(problem),
            },
            ProxyRoute::ExecCreate(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => exec::create(&self, &container, request.body(), &mut audit),
                Err(problem) => Err(problem),
            },
            ProxyRoute::ExecStart(id) => exec::start(&self, &id, request, &mut audit),
            ProxyRoute::ExecResize(id) => exec::resize(&self, &id, query, &mut audit).await,
            ProxyRoute::ExecInspect(id) => exec::inspect(&self, &id, &mut audit),
            ProxyRoute::Absent(kind, name) => {
                audit.detail(format!("{kind} {name}"));
                Err(EngineProblem::new(StatusCode::NOT_FOUND, format!("No such {kind}: {name}")))
            }
            ProxyRoute::Refused => {
                audit.detail(format!("{} {}", request.method(), uri));
                Err(EngineProblem::refused(request.method().as_str(), uri.path()))
            }
        };
        let response = answer.unwrap_or_else(IntoResponse::into_response);
        audit.finish(response.status());
        dressed(response)
    }

    /// Finds the container that a request names, and notes the name in the audit record even if it does not exist.
    pub fn on(&self, text: &str, audit: &mut Audit) -> Result<&Container, EngineProblem> {
        let found = self.find(text);
        match &found {
            Ok(container) => audit.node(&container.node.name),
            Err(_) => audit.detail(text),
        }
        found
    }

    /// Converts a cluster error. Its text may name files of the runner, so the text is only recorded, and the agent gets `outward`.
    pub fn failed(&self, error: &ClusterError, id: &str, outward: &str) -> EngineProblem {
        match error {
            ClusterError::NoSuchNode(node) => EngineProblem::no_such_container(node),
            ClusterError::Conflict { problem, .. } => EngineProblem::conflict(format!("Container {id} {problem}")),
            ClusterError::NotReady { .. }
            | ClusterError::Start { .. }
            | ClusterError::Template(_)
            | ClusterError::Io { .. }
            | ClusterError::Supervisor(_)
            | ClusterError::Engine(_) => {
                self.emitter.warn(format!("a call on the engine failed: {error}"));
                EngineProblem::internal(outward)
            }
        }
    }
}

/// Reads the body of a request. With `drop`, reads and discards it.
async fn whole(request: Request<Body>, drop: bool) -> Result<Request<Bytes>, EngineProblem> {
    let (parts, mut body) = request.into_parts();
    let mut kept = BytesMut::new();
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| EngineProblem::bad_request(format!("the body cannot be read: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        size += data.len();
        if size > if drop { DROPPED_LIMIT } else { BODY_LIMIT } {
            return Err(EngineProblem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
        }
        if !drop {
            kept.extend_from_slice(data);
        }
    }
    Ok(Request::from_parts(parts, kept.freeze()))
}

/// Adds the headers of every engine answer.
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

/// Answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    status.into_response()
}
