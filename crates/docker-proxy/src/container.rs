//! Containers: the form in which an agent sees the nodes of this trial.

use std::time::Duration;

use chaosrun_cluster::PlacedNode;

/// Name of the single network of all nodes.
pub(super) const NETWORK: &str = "cluster";

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

/// Derives an id of 64 hex digits that cannot be guessed without the secret.
pub(super) fn opaque(secret: &str, what: &str, name: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [secret, what, name] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
