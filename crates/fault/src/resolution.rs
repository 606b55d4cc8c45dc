//! Interface between a fault of [`kinds`](super::kinds) and the rest: its resolution, its choice of nodes, its injection.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::Value;

use super::injection::Injection;
use super::target::Target;
use chaosrun_cluster::Topology;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_expr::Template;

/// Choice of nodes at the injection. Every choice is determined by the seed.
#[async_trait]
pub trait Chooser: Send + Sync {
    fn topology(&self) -> &Topology;

    /// Returns the random stream of the choice `purpose`.
    fn stream(&self, purpose: &str) -> ChaCha8Rng;

    /// Returns the nodes that a target selects now. The error says in one sentence why there is no such node.
    async fn nodes(&self, wanted: &Target, purpose: &str) -> Result<Vec<String>, String>;
}

/// Nodes chosen for an injection, and the paths of a fault of links.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    pub targets: Vec<String>,
    pub paths: Vec<LinkPath>,
}

/// Fault whose parameters are resolved.
#[async_trait]
pub trait ResolvedFault: Debug + Send + Sync {
    /// Returns the targets of the fault. For a fault of links, this is the side that is chosen first. Only `groups` of a partition gives
    /// several targets.
    fn targets(&self) -> Vec<&Target>;

    /// Chooses the nodes and paths of an injection, or says in one sentence why it is impossible.
    async fn choose(&self, chooser: &dyn Chooser) -> Result<Choice, String> {
        let wanted = self.targets();
        let wanted = wanted.first().ok_or("no target")?;
        Ok(Choice { targets: chooser.nodes(wanted, "target").await?, paths: Vec::new() })
    }

    /// Builds an injection. `paths` are the chosen paths of a fault of links.
    fn injection(&self, paths: Vec<LinkPath>) -> Box<dyn Injection>;
}

/// Result of resolving the parameters of a fault.
#[derive(Debug)]
pub struct Resolution {
    pub(super) fault: Arc<dyn ResolvedFault>,
    /// Resolved parameters, for digests.
    pub(super) decided: Value,
    /// Key of the resolved parameters, if it differs from the name of the fault.
    pub(super) key: Option<&'static str>,
    pub(super) repair: Option<Template>,
}

impl Resolution {
    /// Creates the resolution of `fault`, with its resolved parameters.
    pub fn of(fault: impl ResolvedFault + Serialize + 'static) -> Self {
        let decided = serde_json::to_value(&fault).unwrap_or_default();
        Self { fault: Arc::new(fault), decided, key: None, repair: None }
    }

    /// Sets another key for digests.
    #[must_use]
    pub fn under(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Sets a command of the scenario that repairs the fault.
    #[must_use]
    pub fn repaired_by(self, repair: Option<Template>) -> Self {
        Self { repair, ..self }
    }
}
