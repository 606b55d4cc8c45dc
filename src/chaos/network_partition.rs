//! `network_partition`: links between nodes are cut, in both directions or in one. The clients keep theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use tokio::sync::watch;

use super::catalogue::{Feature, Kind, Way};
use super::fault::{Inject, Signs};
use crate::cluster::{Cluster, ClusterError, Cut, CutMode, NodeStatus};

pub(super) const KIND: Kind = Kind {
    name: "network_partition",
    local: &[Way { how: "rules of the relay", needs: &[] }],
    docker: &[Way { how: "rules in the node's network namespace", needs: &[Feature::Nftables] }],
};

/// All cuts of a trial, by the fault they are of. A cluster is always told all of them: faults on one link do not undo
/// each other.
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<watch::Sender<IndexMap<String, Vec<Cut>>>>);

impl Links {
    /// Puts the cuts of a fault in force; none = it is over.
    async fn put(&self, cluster: &dyn Cluster, id: &str, cuts: &[Cut]) -> Result<(), ClusterError> {
        self.0.send_modify(|faults| {
            if cuts.is_empty() {
                faults.shift_remove(id);
            } else {
                faults.insert(id.to_owned(), cuts.to_vec());
            }
        });
        cluster.cut(&self.all()).await
    }

    /// Each direction once, with the strictest of what is done to it.
    pub(super) fn all(&self) -> Vec<Cut> {
        let mut strictest: BTreeMap<(String, String), CutMode> = BTreeMap::new();
        for cut in self.0.borrow().values().flatten() {
            let mode = strictest.entry((cut.from.clone(), cut.to.clone())).or_insert(cut.mode);
            *mode = (*mode).max(cut.mode);
        }
        strictest.into_iter().map(|((from, to), mode)| Cut { from, to, mode }).collect()
    }

    /// Until the fault is over; false when the trial is.
    pub(super) async fn lifted(&self, id: &str) -> bool {
        self.0.subscribe().wait_for(|faults| !faults.contains_key(id)).await.is_ok()
    }
}

#[derive(Debug, Clone)]
pub(super) struct NetworkPartition {
    pub(super) id: String,
    pub(super) cuts: Vec<Cut>,
    pub(super) links: Links,
}

#[async_trait]
impl Inject for NetworkPartition {
    /// A link has two ends: all targets at once, whichever is named.
    async fn inject(&self, cluster: &dyn Cluster, _node: &str) -> Result<(), ClusterError> {
        self.links.put(cluster, &self.id, &self.cuts).await
    }

    async fn inject_all(&self, cluster: &dyn Cluster, _nodes: &[String]) -> Result<(), ClusterError> {
        self.links.put(cluster, &self.id, &self.cuts).await
    }

    fn installed(&self, _status: &NodeStatus) -> Result<String, String> {
        // Nothing of a node's own state shows it: see `signs`.
        Ok("links are cut".into())
    }

    async fn heal(&self, cluster: &dyn Cluster, _node: &str) -> Result<(), ClusterError> {
        self.links.put(cluster, &self.id, &[]).await
    }

    async fn heal_all(&self, cluster: &dyn Cluster, _nodes: &[String]) -> Result<(), ClusterError> {
        self.links.put(cluster, &self.id, &[]).await
    }

    fn gone(&self, _status: &NodeStatus) -> bool {
        false
    }

    fn signs(&self) -> Signs {
        Signs::Links(self.clone())
    }
}

/// What is cut between `targets` and `others`: with `one_way` only what the others send to the targets. Nobody is cut from
/// itself, and the targets stay together unless they are among the others.
pub(super) fn cuts(targets: &[String], others: &[String], one_way: bool, mode: CutMode) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for to in targets {
        for from in others.iter().filter(|from| *from != to) {
            cuts.push(Cut { from: from.clone(), to: to.clone(), mode });
            if !one_way {
                cuts.push(Cut { from: to.clone(), to: from.clone(), mode });
            }
        }
    }
    cuts.sort();
    cuts.dedup();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn told(cuts: &[Cut]) -> Vec<String> {
        cuts.iter().map(|cut| format!("{}>{} {:?}", cut.from, cut.to, cut.mode)).collect()
    }

    #[test]
    fn both_directions_or_what_the_targets_hear() {
        let (a, rest) = (names(&["a"]), names(&["a", "b", "c"]));
        assert_eq!(told(&cuts(&a, &rest, false, CutMode::Drop)), ["a>b Drop", "a>c Drop", "b>a Drop", "c>a Drop"]);
        assert_eq!(told(&cuts(&a, &rest, true, CutMode::Stall)), ["b>a Stall", "c>a Stall"]);
        assert_eq!(cuts(&rest, &rest, false, CutMode::Drop).len(), 6, "everybody from everybody, each direction once");
    }

    #[test]
    fn of_several_faults_on_a_link_the_strictest_counts() {
        let links = Links::default();
        links.0.send_modify(|faults| {
            faults.insert("x".into(), cuts(&names(&["a"]), &names(&["b"]), false, CutMode::Stall));
            faults.insert("y".into(), cuts(&names(&["b"]), &names(&["a"]), true, CutMode::Reject));
        });
        assert_eq!(told(&links.all()), ["a>b Reject", "b>a Stall"]);
    }
}
