//! Backends as data: all properties of a backend that files, plans and reports need.
//!
//! A backend is a [`Description`] and a constructor of its clusters. The descriptions of the backends that ship with the program are here,
//! one file each. Constructors belong to the layer that starts clusters (`crates/engine/src/run/backend.rs`), which calls [`register`] for
//! any other backend. No other code compares backends with each other: code asks for the capability that it needs.

mod docker;
mod feature;
mod local;

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{PoisonError, RwLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use docker::DOCKER;
pub use feature::{Feature, Way};
pub use local::LOCAL;

/// Properties of a backend.
#[derive(Debug)]
pub struct Description {
    /// Name in files, options and records. A section of a file that applies to one backend only has the name of this backend.
    pub name: &'static str,
    /// Explanation for `--help`.
    pub about: &'static str,
    /// True if nodes, and the agent's shell, are started from images of a container engine. The engine is connected, and all images are
    /// made, before the first trial; the identity of a trial includes their digests. Without images nodes are commands of this machine.
    pub images: bool,
    /// True if agents cannot reach anything but their trial. Otherwise their shell runs on this machine, in a sandbox if the variant asks
    /// for one.
    pub contains_agents: bool,
    /// True if stand-ins always replace the real programs, for every cluster that has stand-ins.
    pub standins: bool,
    /// True if each node whose file declares a `disk` has a file system of that size, so that any program gets `ENOSPC` when it is full.
    pub own_disks: bool,
    /// True if percentages of memory refer to the limit that a node's file declares.
    pub memory_limits: bool,
    /// Memory of a node whose file declares no limit, in bytes. The memory of a trial is the sum over its nodes.
    pub node_memory: u64,
    /// Mechanisms of faults by the name of the fault, the preferred mechanism first. For the backends that ship with the program, the files
    /// of faults contain the mechanisms instead. A fault without any mechanism is refused.
    pub ways: &'static [(&'static str, &'static [Way])],
}

/// Backend, identified by its description.
#[derive(Clone, Copy)]
pub struct Backend(&'static Description);

/// Known backends in the order in which they are listed, and their names.
struct Registry {
    backends: &'static [Backend],
    names: &'static [&'static str],
}

/// Registry of backends. The default is the first.
static REGISTRY: RwLock<Registry> =
    RwLock::new(Registry { backends: &[Backend::LOCAL, Backend::DOCKER], names: &[LOCAL.name, DOCKER.name] });

/// Registers a backend beside those that ship with the program. Must be called when the program starts, before any file is loaded. A name
/// that is already registered keeps its backend.
pub fn register(description: &'static Description) {
    let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    if registry.names.contains(&description.name) {
        return;
    }
    // Leaked, because backends are few and live as long as the program.
    registry.backends = Vec::leak([registry.backends, &[Backend(description)]].concat());
    registry.names = Vec::leak([registry.names, &[description.name]].concat());
}

impl Backend {
    pub const LOCAL: Self = Self(&LOCAL);
    pub const DOCKER: Self = Self(&DOCKER);

    /// Returns every known backend, the default first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        REGISTRY.read().unwrap_or_else(PoisonError::into_inner).backends
    }

    /// Returns the names of all backends.
    #[must_use]
    pub fn names() -> &'static [&'static str] {
        REGISTRY.read().unwrap_or_else(PoisonError::into_inner).names
    }

    /// Returns the backend with that name; `None` if no such backend is known.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().iter().copied().find(|backend| backend.name == name)
    }

    /// Returns the name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0.name
    }

    /// Returns the first known backend that matches, for recommendations in messages.
    #[must_use]
    pub fn first(fits: impl Fn(&Description) -> bool) -> Option<Self> {
        Self::all().iter().copied().find(|backend| fits(backend))
    }

    /// Returns the mechanisms of the fault with that name on this backend, if this description contains them.
    #[must_use]
    pub fn ways_of(self, fault: &str) -> Option<&'static [Way]> {
        self.0.ways.iter().find(|(name, _)| *name == fault).map(|(_, ways)| *ways)
    }
}

/// Returns true if that name is the default backend, which need not be mentioned.
#[must_use]
pub fn is_default(name: &str) -> bool {
    Backend::default().name == name
}

impl Default for Backend {
    fn default() -> Self {
        Self::LOCAL
    }
}

impl Deref for Backend {
    type Target = Description;

    fn deref(&self) -> &Description {
        self.0
    }
}

impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Backend {}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl Serialize for Backend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| D::Error::unknown_variant(&name, Self::names()))
    }
}

impl JsonSchema for Backend {
    fn schema_name() -> Cow<'static, str> {
        "Backend".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Self::names() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_found_by_name() {
        assert_eq!(Backend::named("docker"), Some(Backend::DOCKER));
        assert_eq!(Backend::named("dokcer"), None);
        assert_eq!(Backend::all()[0], Backend::default());
        assert!(is_default("local") && !is_default("docker") && !is_default(""));
        let read = |text: &str| serde_json::from_str::<Backend>(text);
        assert_eq!(read("\"local\"").unwrap(), Backend::LOCAL);
        assert_eq!(serde_json::to_string(&Backend::DOCKER).unwrap(), "\"docker\"");
        let error = read("\"podman\"").unwrap_err().to_string();
        assert!(error.contains("unknown variant `podman`") && error.contains("`local`") && error.contains("`docker`"), "{error}");
    }
}
