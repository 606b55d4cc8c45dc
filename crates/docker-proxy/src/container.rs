//! Containers of the docker proxy. The agent is shown each node of the trial as a container.

use std::time::Duration;

use chaosrun_cluster::PlacedNode;

/// Name of the only network, which contains all nodes.
pub(super) const NETWORK: &str = "cluster";

/// Container properties under which an agent is shown a node. They must not reveal what the trial tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    pub image: String,
    /// Command that `docker ps` prints for the node.
    pub command: Vec<String>,
    /// Time between SIGTERM and SIGKILL for a `stop` or `restart` request without a time.
    pub stop_grace: Duration,
}

impl ContainerView {
    /// Returns the view derived from the node's role alone: image `<role>:local`, command `<role>`, and the engine's default stop time of
    /// 10 s.
    #[must_use]
    pub fn neutral(node: &PlacedNode) -> Self {
        Self { image: format!("{}:local", node.role), command: vec![node.role.clone()], stop_grace: Duration::from_secs(10) }
    }
}

/// Node of the trial with its container id and its view.
#[derive(Debug, Clone)]
pub(super) struct Container {
    /// Container id of 64 hex digits.
    pub id: String,
    /// Id of the container's image, in the form `sha256:...`.
    pub image_id: String,
    pub node: PlacedNode,
    pub face: ContainerView,
}

/// Derives an id of 64 hex digits from a secret, a kind and a name. The id cannot be guessed without the secret.
pub(super) fn opaque(secret: &str, what: &str, name: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [secret, what, name] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
