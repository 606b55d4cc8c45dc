//! Fixed data of a fault: its name, its mechanisms on each backend, and its repair.
//!
//! Scenario files are checked against this data when they are loaded. `chaosrun doctor` compares the data with the features of the machine.

use super::Injection;
use super::context::FaultContext;
use chaosrun_cluster::backend::Backend;
pub use chaosrun_cluster::backend::{Feature, Way};

/// Name of the backend whose nodes are processes on this machine.
pub const LOCAL: &str = "local";
/// Name of the backend whose nodes are containers.
pub const DOCKER: &str = "docker";

/// Mechanisms of a fault on one backend. The first mechanism is preferred. Each following mechanism is a fallback if the previous ones are
/// not available.
#[derive(Debug, Clone, Copy)]
pub struct BackendWays {
    /// Name of the backend.
    pub backend: &'static str,
    pub ways: &'static [Way],
}

/// Creates a [`BackendWays`] from its two fields.
pub(super) const fn on(backend: &'static str, ways: &'static [Way]) -> BackendWays {
    BackendWays { backend, ways }
}

/// Kind of repair with which an agent can remove a fault. The oracle agent uses this repair unless the scenario defines another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Command `docker VERB NODE`; the value is the verb.
    Verb(&'static str),
    /// Command that [`Injection::repair_command`] returns.
    Command,
    /// Command that the scenario defines.
    Scenario,
    /// No repair, because the fault ends by itself.
    Itself,
    /// No repair, because an agent cannot remove the fault.
    Nobody,
}

impl Repair {
    /// Returns the command that repairs the fault on `node` in the shell of an agent; `None` if there is no fixed command.
    pub fn command(self, injection: &dyn Injection, context: &FaultContext, node: &str) -> Option<String> {
        match self {
            Self::Verb(verb) => Some(format!("docker {verb} {node}")),
            Self::Command => injection.repair_command(context, node),
            Self::Scenario | Self::Itself | Self::Nobody => None,
        }
    }
}

/// Preparation that a node needs at its start, so that a fault can be injected later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// Separate clock for the node, which faults can change.
    Clock,
    /// File system for fault injection under the data of the node.
    DiskLayer,
}

/// Fixed data of one kind of fault. A backend without a mechanism refuses the fault.
#[derive(Debug)]
pub struct FaultDescription {
    /// Name of the fault: the key below `inject:`.
    pub name: &'static str,
    /// Summary in one sentence, for the JSON schema and the documentation.
    pub summary: &'static str,
    /// Example of the map below `inject:` in one line, for a TiKV cluster.
    pub example: &'static str,
    pub backends: &'static [BackendWays],
    /// Reason why backends without a mechanism refuse the fault.
    pub refused: &'static str,
    pub repair: Repair,
    /// Class that a correct diagnosis of the fault names.
    pub class: &'static str,
    /// Resource of a node that only one fault can use at a time; `None` if the fault needs no exclusive resource.
    pub holds: Option<&'static str>,
    pub prepares: Option<Preparation>,
}

impl FaultDescription {
    /// Returns the mechanisms on the backend `backend`; empty if the backend refuses the fault.
    #[must_use]
    pub fn ways(&self, backend: &str) -> &'static [Way] {
        let own = self.backends.iter().find(|on| on.backend == backend).map(|on| on.ways);
        own.or_else(|| Backend::named(backend)?.ways_of(self.name)).unwrap_or_default()
    }
}
