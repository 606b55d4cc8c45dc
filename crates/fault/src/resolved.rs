//! Faults with all parameters resolved.

use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::description::FaultDescription;
use super::ground::FaultGround;
use super::injection::Injection;
use super::kinds::FaultParameters;
use super::resolution::{Choice, Chooser, Resolution, ResolvedFault};
use super::resolver::{Heal, Resolver};
use super::target::Target;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_expr::Template;
use chaosrun_input::{Checker, get};

/// Fault of a scenario, with resolved parameters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fault {
    description: &'static FaultDescription,
    /// Unresolved parameters, as the file contains them.
    parameters: Arc<Map<String, Value>>,
    resolved: Arc<dyn ResolvedFault>,
    decided: Arc<(&'static str, Value)>,
}

impl Fault {
    /// Checks the parameters at `pointer` (the value of `inject`), and checks that the cluster and the backend support the fault. Returns
    /// the fault, and the repair command of the file.
    pub fn resolve(
        check: &mut Checker,
        pointer: &Pointer,
        read: &FaultParameters,
        heal: Heal,
        ground: &FaultGround,
    ) -> Option<(Self, Option<Template>)> {
        let description = read.description();
        let at = pointer.key(description.name);
        let mut parameters = get(&check.doc.value, &at).and_then(Value::as_object).cloned().unwrap_or_default();
        // A key without a value counts as an absent key.
        parameters.retain(|_, value| !value.is_null());
        let mut resolver = Resolver { check, at, heal, ground };
        let Resolution { fault, decided, key, repair } = read.resolve(&mut resolver)?;
        refuse(&mut resolver, description);
        let decided = Arc::new((key.unwrap_or(description.name), decided));
        Some((Self { description, parameters: Arc::new(parameters), resolved: fault, decided }, repair))
    }

    #[must_use]
    pub const fn description(&self) -> &'static FaultDescription {
        self.description
    }

    /// Returns the name of the fault, as in scenario files.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.description.name
    }

    /// Returns the unresolved parameters of the file, for the record.
    #[must_use]
    pub fn parameters(&self) -> Map<String, Value> {
        Map::clone(&self.parameters)
    }

    /// Returns the targets of the fault; see [`ResolvedFault::targets`].
    #[must_use]
    pub fn targets(&self) -> Vec<&Target> {
        self.resolved.targets()
    }

    /// Chooses the nodes and paths of an injection; see [`ResolvedFault::choose`].
    ///
    /// # Errors
    /// Returns an error of one sentence if there is no node or link to choose.
    pub async fn choose(&self, chooser: &dyn Chooser) -> Result<Choice, String> {
        self.resolved.choose(chooser).await
    }

    /// Creates an injection of the fault; see [`ResolvedFault::injection`].
    #[must_use]
    pub fn injection(&self, paths: Vec<LinkPath>) -> Box<dyn Injection> {
        self.resolved.injection(paths)
    }
}

/// Serialises the resolved parameters for digests, so that different notations of the same values have the same digest.
impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, decided) = &*self.decided;
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, decided)?;
        map.end()
    }
}

/// Reports a problem if the backend has no mechanism for the fault.
fn refuse(resolver: &mut Resolver, fault: &FaultDescription) {
    let backend = resolver.ground.backend;
    if !fault.ways(backend).is_empty() {
        return;
    }
    let message = format!("`{}` is not available on `{backend}`: {}", fault.name, fault.refused);
    let problem = Diagnostic::error("fault_not_here", message).label(format!("not on `{backend}`"));
    let other = fault.backends.iter().find(|other| !other.ways.is_empty());
    resolver.wrong_fault(match other {
        Some(other) => problem.help(format!("use `--backend {0}`, or set `backend: {0}` in the scenario", other.backend)),
        None => problem,
    });
}
