//! Fixed data of a fault: its name, its mechanisms on each backend, and its repair.
//!
//! Files are checked against this data when they are loaded; `chaosrun doctor` compares it with the machine.

use super::Injection;
use super::context::FaultContext;
use chaosrun_cluster::backend::Backend;
pub use chaosrun_cluster::backend::{Feature, Way};

/// Name of the backend with processes on this machine.
pub const LOCAL: &str = "local";
/// Name of the backend with containers.
pub const DOCKER: &str = "docker";

/// Mechanisms of a fault on one backend. The first one is preferred; the others replace it if it is not available.
#[derive(Debug, Clone, Copy)]
pub struct BackendWays {
    /// Name of the backend.
    pub backend: &'static str,
    pub ways: &'static [Way],
}

/// Shorthand for a [`BackendWays`].
pub(super) const fn on(backend: &'static str, ways: &'static [Way]) -> BackendWays {
    BackendWays { backend, ways }
}

/// Repair of a fault by an agent. The oracle uses it unless the scenario gives another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// `docker VERB NODE`.
    Verb(&'static str),
    /// Command that the injection returns.
    Command,
    /// Command that the scenario gives.
    Scenario,
    /// No repair is needed: the fault ends by itself.
    Itself,
    /// No agent can repair it.
    Nobody,
}

impl Repair {
    /// Command that repairs the fault on `node` in the shell of an agent, if there is one.
    pub fn command(self, injection: &dyn Injection, context: &FaultContext, node: &str) -> Option<String> {
        match self {
            Self::Verb(verb) => Some(format!("docker {verb} {node}")),
            Self::Command => injection.repair_command(context, node),
            Self::Scenario | Self::Itself | Self::Nobody => None,
        }
    }
}

/// Equipment that a node must be started with, so that a fault can be injected later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// Clock of its own.
    Clock,
    /// Fault-injection file system under its data.
    DiskLayer,
}

/// Fixed data of one fault. A backend without a mechanism refuses the fault.
#[derive(Debug)]
pub struct FaultDescription {
    /// Key below `inject:`.
    pub name: &'static str,
    /// One sentence for the JSON schema and the documentation.
    pub summary: &'static str,
    /// Example of the map below `inject:`, for a TiKV cluster, in one line.
    pub example: &'static str,
    pub backends: &'static [BackendWays],
    /// Reason for the refusal on the backends without a mechanism.
    pub refused: &'static str,
    pub repair: Repair,
    /// Class of the fault in a diagnosis.
    pub class: &'static str,
    /// Resource of a node that only one fault can hold at a time.
    pub holds: Option<&'static str>,
    pub prepares: Option<Preparation>,
}

impl FaultDescription {
    /// Returns the mechanisms on the backend of that name; empty if the backend refuses the fault.
    #[must_use]
    pub fn ways(&self, backend: &str) -> &'static [Way] {
        let own = self.backends.iter().find(|on| on.backend == backend).map(|on| on.ways);
        own.or_else(|| Backend::named(backend)?.ways_of(self.name)).unwrap_or_default()
    }
}
