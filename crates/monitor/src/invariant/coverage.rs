//! Coverage of a cluster's invariants by the checks of scenarios. An invariant that no check has violated may never be able to fail.

use indexmap::{IndexMap, IndexSet};

use chaosrun_scenario::model::InvariantKind;

/// Coverage of the invariants of all clusters, by cluster name.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    clusters: IndexMap<String, Seen>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    invariants: IndexMap<String, InvariantKind>,
    violated: IndexSet<String>,
    /// Names of the invariants that were violated in checks whose agent must be caught.
    caught: IndexSet<String>,
}

/// Invariant that no check has proven to be effective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven {
    pub cluster: String,
    pub invariant: String,
    pub kind: InvariantKind,
}

impl Coverage {
    /// Adds the result of a finished check. `cheats` is true if the checked agent is expected to fail although it acts, so that
    /// it should violate a safeguard.
    pub fn add(
        &mut self,
        cluster: &str,
        declared: impl IntoIterator<Item = (String, InvariantKind)>,
        cheats: bool,
        violated: impl IntoIterator<Item = String>,
    ) {
        let seen = self.clusters.entry(cluster.to_owned()).or_default();
        seen.invariants.extend(declared);
        for name in violated {
            if cheats {
                seen.caught.insert(name.clone());
            }
            seen.violated.insert(name);
        }
    }

    /// Returns the unproven invariants, in the order of the cluster files.
    #[must_use]
    pub fn unproven(&self) -> Vec<Unproven> {
        let of = |(cluster, seen): (&String, &Seen)| {
            let proven = |name: &String, kind| match kind {
                InvariantKind::Objective => seen.violated.contains(name),
                InvariantKind::Safeguard => seen.caught.contains(name),
            };
            let open = seen.invariants.iter().filter(|(name, kind)| !proven(name, **kind));
            open.map(|(name, kind)| Unproven { cluster: cluster.clone(), invariant: name.clone(), kind: *kind }).collect::<Vec<_>>()
        };
        self.clusters.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inactive_agent_proves_no_safeguard() {
        let declared =
            || [("up", InvariantKind::Objective), ("quorum", InvariantKind::Safeguard)].map(|(name, kind)| (name.to_owned(), kind));
        let mut coverage = Coverage::default();
        coverage.add("one", declared(), false, ["quorum".to_owned()]);
        coverage.add("two", declared(), true, ["quorum".to_owned(), "up".to_owned()]);
        let open: Vec<_> = coverage.unproven().into_iter().map(|open| format!("{} {}", open.cluster, open.invariant)).collect();
        assert_eq!(open, ["one up", "one quorum"]);
        coverage.add("one", declared(), true, ["up".to_owned(), "quorum".to_owned()]);
        assert!(coverage.unproven().is_empty());
    }
}
