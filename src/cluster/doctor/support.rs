//! Which fault works on which backend, by what the faults need and what the machine has. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::chaos::catalogue::{Feature, Kind};
use crate::scenario::model::Backend;

/// What a machine has: the features it was asked for, each with the reason when it is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Why the backend cannot be used at all.
    pub local: Option<String>,
    pub docker: Option<String>,
    pub features: BTreeMap<Feature, Result<String, String>>,
}

/// How well a fault works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Support {
    Yes {
        how: String,
    },
    /// In another way than the right one, and why.
    Fallback {
        how: String,
        why: String,
    },
    No {
        why: String,
    },
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultSupport {
    pub fault: String,
    pub local: Support,
    pub docker: Support,
}

/// The whole table.
#[must_use]
pub fn table(kinds: &[&Kind], abilities: &Abilities) -> Vec<FaultSupport> {
    let row = |kind: &&Kind| FaultSupport {
        fault: kind.name.to_owned(),
        local: support(kind, Backend::Local, abilities),
        docker: support(kind, Backend::Docker, abilities),
    };
    kinds.iter().map(row).collect()
}

fn support(kind: &Kind, backend: Backend, abilities: &Abilities) -> Support {
    let unusable = match backend {
        Backend::Local => &abilities.local,
        Backend::Docker => &abilities.docker,
    };
    if let Some(why) = unusable {
        return Support::No { why: why.clone() };
    }
    let mut why: Option<String> = None;
    for way in kind.ways(backend) {
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
    use crate::chaos::catalogue::Way;

    const LATENCY: Kind = Kind {
        name: "latency",
        local: &[],
        docker: &[
            Way { how: "a file system", needs: &[Feature::Fuse] },
            Way { how: "a queue of ours", needs: &[Feature::Nftables, Feature::Nfqueue] },
        ],
        refused: "it sees no packets",
        repair: crate::chaos::catalogue::Repair::Nobody,
        class: "network_latency",
        holds: None,
    };

    #[test]
    fn the_first_way_that_can_be_gone_is_taken() {
        let has = |features: &[Feature]| Abilities {
            features: features.iter().map(|feature| (*feature, Ok(String::new()))).collect(),
            ..Abilities::default()
        };
        let on_docker = |abilities: &Abilities| table(&[&LATENCY], abilities).remove(0).docker;
        assert_eq!(on_docker(&has(&[Feature::Fuse])), Support::Yes { how: "a file system".into() });
        let fallback = Support::Fallback { how: "a queue of ours".into(), why: "no fuse".into() };
        assert_eq!(on_docker(&has(&[Feature::Nftables, Feature::Nfqueue])), fallback);
        assert_eq!(on_docker(&has(&[Feature::Nftables])), Support::No { why: "no fuse".into() });
        let dead = Abilities { docker: Some("no engine".into()), ..has(&[Feature::Fuse]) };
        assert_eq!(on_docker(&dead), Support::No { why: "no engine".into() });
        assert_eq!(table(&[&LATENCY], &dead)[0].local, Support::No { why: "it sees no packets".into() });
    }
}
