//! Backends as data: all properties of a backend that files, plans and reports need.
//!
//! A backend consists of a [`Description`] and a constructor of its clusters. The descriptions of the backends that ship with the program
//! are in this module, one file each. Constructors belong to the layer that starts clusters (`crates/engine/src/run/backend.rs`), which
//! calls [`register`] for any other backend. No other code compares backends with each other. Other code checks for the capability that it
//! needs.

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

/// Description of one backend: its properties as data.
#[derive(Debug)]
pub struct Description {
    /// Name of the backend in files, options and records. A section of a file that applies to only one backend has the same name.
    pub name: &'static str,
    /// Explanation of the backend for `--help`.
    pub about: &'static str,
    /// True if nodes, and the shell of the agent, are started from images of a container engine. The engine is connected, and all images
    /// are built or pulled, before the first trial. The identity of a trial includes the digests of the images. If false, nodes are
    /// commands of this machine.
    pub images: bool,
    /// True if agents can reach only their own trial. If false, the shell of an agent runs on this machine, in a sandbox if the variant
    /// requests one.
    pub contains_agents: bool,
    /// True if stand-ins always replace the real programs, in every cluster that declares stand-ins.
    pub standins: bool,
    /// True if each node whose file declares a `disk` has a file system of that size. A full file system returns `ENOSPC` to any program.
    pub own_disks: bool,
    /// True if percentages of memory refer to the memory limit that the file declares for a node.
    pub memory_limits: bool,
    /// Assumed memory, in bytes, of a node whose file declares no limit. The memory of a trial is the sum over its nodes.
    pub node_memory: u64,
    /// Mechanisms of faults, by name of the fault, with the preferred mechanism first. For the backends that ship with the program, the
    /// files of faults contain the mechanisms instead. A fault without a mechanism is refused.
    pub ways: &'static [(&'static str, &'static [Way])],
}

/// Reference to a backend, identified by its description.
#[derive(Clone, Copy)]
pub struct Backend(&'static Description);

/// Registry of the known backends and their names, in the order of lists.
struct Registry {
    backends: &'static [Backend],
    names: &'static [&'static str],
}

/// Global registry of backends. The first backend is the default.
static REGISTRY: RwLock<Registry> =
    RwLock::new(Registry { backends: &[Backend::LOCAL, Backend::DOCKER], names: &[LOCAL.name, DOCKER.name] });

/// Registers a backend in addition to the backends that ship with the program. Must be called when the program starts, before any file is
/// loaded. If the name is already registered, the call has no effect.
pub fn register(description: &'static Description) {
    let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    if registry.names.contains(&description.name) {
        return;
    }
    // The list is leaked, because backends are few and live as long as the program.
    registry.backends = Vec::leak([registry.backends, &[Backend(description)]].concat());
    registry.names = Vec::leak([registry.names, &[description.name]].concat());
}

impl Backend {
    pub const LOCAL: Self = Self(&LOCAL);
    pub const DOCKER: Self = Self(&DOCKER);

    /// Returns every known backend, with the default first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        REGISTRY.read().unwrap_or_else(PoisonError::into_inner).backends
    }

    /// Returns the names of all known backends.
    #[must_use]
    pub fn names() -> &'static [&'static str] {
        REGISTRY.read().unwrap_or_else(PoisonError::into_inner).names
    }

    /// Returns the backend with the name `name`; `None` if no such backend is known.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().iter().copied().find(|backend| backend.name == name)
    }

    /// Returns the name of the backend.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0.name
    }

    /// Returns the first known backend whose description satisfies `fits`, for recommendations in messages.
    #[must_use]
    pub fn first(fits: impl Fn(&Description) -> bool) -> Option<Self> {
        Self::all().iter().copied().find(|backend| fits(backend))
    }

    /// Returns the mechanisms of the fault `fault` on this backend; `None` if the description of the backend does not contain the fault.
    #[must_use]
    pub fn ways_of(self, fault: &str) -> Option<&'static [Way]> {
        self.0.ways.iter().find(|(name, _)| *name == fault).map(|(_, ways)| *ways)
    }
}

/// Returns true if `name` is the name of the default backend, which messages need not mention.
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
