//! Interface between a fault of [`kinds`](super::kinds) and the rest of chaosrun: its resolution, its choice of nodes, its injection.

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

/// Source of the choices of an injection. The seed determines every choice.
#[async_trait]
pub trait Chooser: Send + Sync {
    fn topology(&self) -> &Topology;

    /// Returns the random stream for the choice named `purpose`.
    fn stream(&self, purpose: &str) -> ChaCha8Rng;

    /// Returns the nodes that the target selects now. Returns an error of one sentence if the target selects no node.
    async fn nodes(&self, wanted: &Target, purpose: &str) -> Result<Vec<String>, String>;
}

/// Nodes that are chosen for an injection, and the paths of a fault of links.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    pub targets: Vec<String>,
    pub paths: Vec<LinkPath>,
}

/// Fault whose parameters are resolved.
#[async_trait]
pub trait ResolvedFault: Debug + Send + Sync {
    /// Returns the targets of the fault. For a fault of links, returns the side that is chosen first. Only `groups` of a partition has
    /// several targets.
    fn targets(&self) -> Vec<&Target>;

    /// Chooses the nodes and paths of an injection. Returns an error of one sentence if no choice is possible.
    async fn choose(&self, chooser: &dyn Chooser) -> Result<Choice, String> {
        let wanted = self.targets();
        let wanted = wanted.first().ok_or("no target")?;
        Ok(Choice { targets: chooser.nodes(wanted, "target").await?, paths: Vec::new() })
    }

    /// Creates an injection of the fault. `paths` are the chosen paths of a fault of links.
    fn injection(&self, paths: Vec<LinkPath>) -> Box<dyn Injection>;
}

/// Result of the resolution of the parameters of a fault.
#[derive(Debug)]
pub struct Resolution {
    pub(super) fault: Arc<dyn ResolvedFault>,
    /// Resolved parameters in serialised form, for digests.
    pub(super) decided: Value,
    /// Key of the resolved parameters in digests, if the key differs from the name of the fault.
    pub(super) key: Option<&'static str>,
    pub(super) repair: Option<Template>,
}

impl Resolution {
    /// Creates the resolution of `fault`, which contains its resolved parameters.
    pub fn of(fault: impl ResolvedFault + Serialize + 'static) -> Self {
        let decided = serde_json::to_value(&fault).unwrap_or_default();
        Self { fault: Arc::new(fault), decided, key: None, repair: None }
    }

    /// Sets the key of the parameters in digests, in place of the name of the fault.
    #[must_use]
    pub fn under(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Sets the command of the scenario that repairs the fault.
    #[must_use]
    pub fn repaired_by(self, repair: Option<Template>) -> Self {
        Self { repair, ..self }
    }
}
