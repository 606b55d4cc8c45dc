//! Support of faults by backends, computed without IO from the requirements of the faults and the features of the machine.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Serialize;

use chaosrun_fault::{FaultDescription, Feature};
use chaosrun_scenario::model::Backend;

/// Checked features of a machine, each with the reason if it is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Reason why a backend is unusable, by name of the backend.
    pub unusable: BTreeMap<&'static str, String>,
    pub features: BTreeMap<Feature, Result<String, String>>,
}

/// Level of support of a fault on a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Support {
    Yes {
        how: String,
    },
    /// The fault is supported by a mechanism other than the preferred one, for the given reason.
    Fallback {
        how: String,
        why: String,
    },
    No {
        why: String,
    },
}

/// Row of the support table: the support of one fault on all backends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultSupport {
    pub fault: String,
    /// Support level of the fault, by name of the backend.
    #[serde(flatten)]
    pub on: IndexMap<&'static str, Support>,
}

/// Returns the support table, with one row per fault.
#[must_use]
pub fn table(kinds: &[&FaultDescription], abilities: &Abilities) -> Vec<FaultSupport> {
    let row = |kind: &&FaultDescription| FaultSupport {
        fault: kind.name.to_owned(),
        on: Backend::all().iter().map(|backend| (backend.as_str(), support(kind, *backend, abilities))).collect(),
    };
    kinds.iter().map(row).collect()
}

/// Returns the support level of a fault on a backend.
#[must_use]
pub fn support(kind: &FaultDescription, backend: Backend, abilities: &Abilities) -> Support {
    if let Some(why) = abilities.unusable.get(backend.as_str()) {
        return Support::No { why: why.clone() };
    }
    let mut why: Option<String> = None;
    for way in kind.ways(backend.as_str()) {
        let missing = way.needs.iter().find(|feature| !matches!(abilities.features.get(feature), Some(Ok(_))));
        match (missing, why) {
            (None, None) => return Support::Yes { how: way.how.to_owned() },
            (None, Some(why)) => return Support::Fallback { how: way.how.to_owned(), why },
            (Some(feature), first) => why = first.or_else(|| Some(format!("no {}", feature.name()))),
        }
    }
    Support::No { why: why.unwrap_or_else(|| kind.refused.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_fault::{BackendWays, DOCKER, Repair, Way};

    const LATENCY: FaultDescription = FaultDescription {
        name: "latency",
        summary: "What is sent arrives later.",
        example: "latency: { to: tikv1, delay: 50ms }",
        backends: &[BackendWays {
            backend: DOCKER,
            ways: &[
                Way { how: "a file system", needs: &[Feature::Fuse] },
                Way { how: "a queue of ours", needs: &[Feature::Nftables, Feature::Nfqueue] },
            ],
        }],
        refused: "it sees no packets",
        repair: Repair::Nobody,
        class: "network_latency",
        holds: None,
        prepares: None,
    };

    #[test]
    fn first_available_mechanism_is_selected() {
        let has = |features: &[Feature]| Abilities {
            features: features.iter().map(|feature| (*feature, Ok(String::new()))).collect(),
            ..Abilities::default()
        };
        let on_docker = |abilities: &Abilities| support(&LATENCY, Backend::DOCKER, abilities);
        assert_eq!(on_docker(&has(&[Feature::Fuse])), Support::Yes { how: "a file system".into() });
        let fallback = Support::Fallback { how: "a queue of ours".into(), why: "no fuse".into() };
        assert_eq!(on_docker(&has(&[Feature::Nftables, Feature::Nfqueue])), fallback);
        assert_eq!(on_docker(&has(&[Feature::Nftables])), Support::No { why: "no fuse".into() });
        let dead = Abilities { unusable: [("docker", "no engine".into())].into(), ..has(&[Feature::Fuse]) };
        assert_eq!(on_docker(&dead), Support::No { why: "no engine".into() });
        assert_eq!(table(&[&LATENCY], &dead)[0].on["local"], Support::No { why: "it sees no packets".into() });
    }
}
