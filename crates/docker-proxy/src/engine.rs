//! State of the docker proxy: the nodes of this trial under the names and ids that are shown to the agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use super::audit::Audit;
use super::container::{Container, ContainerView, opaque};
use super::event_history::EventHistory;
use super::exec_record::Execs;
use super::line_times::Index;
use super::problem::EngineProblem;
use super::times::ClockReader;
use chaosrun_base::task::Tasks;
use chaosrun_cluster::{Cluster, ClusterError, NodeStatus, PlacedNode};
use chaosrun_event::NodeState;
use chaosrun_event::emit::Emitter;

/// Settings of a docker proxy.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Path of the unix socket, which is shown to agents. At most about 100 bytes long, the limit for unix sockets.
    pub socket: PathBuf,
    /// Secret from which container ids are derived, so that the ids reveal nothing about the nodes.
    pub secret: String,
    /// Container views by node name. A node without an entry gets [`ContainerView::neutral`].
    pub faces: IndexMap<String, ContainerView>,
}

impl ProxySettings {
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>, secret: impl Into<String>) -> Self {
        Self { socket: socket.into(), secret: secret.into(), faces: IndexMap::new() }
    }
}

/// State that all connections of a docker proxy share. Only the execs and the observed histories change.
pub(super) struct ProxyState {
    pub cluster: Arc<dyn Cluster>,
    pub emitter: Emitter,
    pub containers: Vec<Container>,
    pub clock: ClockReader,
    pub logs: Index,
    pub history: EventHistory,
    pub execs: Execs,
    pub network_id: String,
    pub token: CancellationToken,
    pub tasks: Tasks,
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
    /// Finds a container by its name (with or without a leading slash), its id, or an unambiguous prefix of its id.
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

    /// Finds the container that a request names, and adds the name to the audit record. A name without a container is recorded too.
    pub fn on(&self, text: &str, audit: &mut Audit) -> Result<&Container, EngineProblem> {
        let found = self.find(text);
        match &found {
            Ok(container) => audit.node(&container.node.name),
            Err(_) => audit.detail(text),
        }
        found
    }

    /// Converts a cluster error to an engine error for the agent. Messages that may name files of the runner are only logged as warnings.
    /// The agent then gets the text `outward`.
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

/// Creates an answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    status.into_response()
}
