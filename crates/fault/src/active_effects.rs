//! Combined effects of all faults of a trial. Every change passes the complete state to the cluster, so that faults on one link, disk or
//! clock do not undo each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use tokio::sync::{Mutex, watch};

use chaosrun_cluster::fault_control::{CutMode, DiskFault, LinkPath, NodeClock, Redefinition, Shape, Stress};
use chaosrun_cluster::{Cluster, ClusterError};

type ByFault<T> = IndexMap<String, T>;

/// Active effects of all faults on a cluster. One value exists per trial, or per kept cluster. Cheap to clone.
#[derive(Clone, Default)]
pub struct ActiveEffects(Arc<Inner>);

#[derive(Default)]
struct Inner {
    links: watch::Sender<ByFault<Vec<LinkPath>>>,
    /// Lock held from a change until the cluster has applied the change, so that an older state never overwrites a newer one.
    turn: Mutex<()>,
    nodes: std::sync::Mutex<BTreeMap<String, OfNode>>,
    /// Number of changes of the effects on nodes. Each new value notifies the waiting tasks.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct OfNode {
    clock: ByFault<NodeClock>,
    disk: ByFault<DiskFault>,
    stress: ByFault<Stress>,
    definition: ByFault<Redefinition>,
}

fn put<T>(faults: &mut ByFault<T>, id: &str, state: Option<T>) {
    match state {
        Some(state) => drop(faults.insert(id.to_owned(), state)),
        None => drop(faults.shift_remove(id)),
    }
}

impl ActiveEffects {
    /// Activates the paths of the fault `id`; an empty list ends its effect on links.
    ///
    /// # Errors
    /// Returns an error if the cluster cannot apply the change. The methods below return errors for the same reason.
    pub async fn links(&self, cluster: &dyn Cluster, seed: u64, id: &str, paths: &[LinkPath]) -> Result<(), ClusterError> {
        let _turn = self.0.turn.lock().await;
        self.0.links.send_modify(|faults| put(faults, id, (!paths.is_empty()).then(|| paths.to_vec())));
        let all = self.paths();
        cluster.set_links(&all, seed).await
    }

    /// Returns the active paths of all faults, on all links.
    #[must_use]
    pub fn paths(&self) -> Vec<LinkPath> {
        computed(self.0.links.borrow().values().flatten())
    }

    /// Waits until the fault `id` has no effect on links. Returns false if the effects can no longer change.
    pub async fn lifted(&self, id: &str) -> bool {
        self.0.links.subscribe().wait_for(|faults| !faults.contains_key(id)).await.is_ok()
    }

    /// Sets the effect of the fault `id` on the clock of a node; `None` ends the effect.
    pub async fn clock(&self, cluster: &dyn Cluster, node: &str, id: &str, clock: Option<NodeClock>) -> Result<(), ClusterError> {
        let _turn = self.0.turn.lock().await;
        let both =
            |one: NodeClock, other: &NodeClock| NodeClock { offset_us: one.offset_us + other.offset_us, rate: one.rate * other.rate };
        let all = self.of(node, |state| {
            put(&mut state.clock, id, clock);
            state.clock.values().copied().reduce(|one, other| both(one, &other))
        });
        let done = cluster.set_clock(node, all).await;
        self.0.changed.send_modify(|count| *count += 1);
        done
    }

    /// Sets the effect of the fault `id` on the disk of a node; `None` ends the effect.
    pub async fn disk(&self, cluster: &dyn Cluster, node: &str, id: &str, fault: Option<DiskFault>) -> Result<(), ClusterError> {
        let _turn = self.0.turn.lock().await;
        let all = self.of(node, |state| {
            put(&mut state.disk, id, fault);
            state.disk.values().cloned().reduce(|one, other| both_disks(one, &other))
        });
        let done = cluster.set_disk(node, all.as_ref()).await;
        self.0.changed.send_modify(|count| *count += 1);
        done
    }

    /// Sets the load that the fault `id` adds within the resource limits of a node; `None` ends the load.
    pub async fn stress(&self, cluster: &dyn Cluster, node: &str, id: &str, stress: Option<Stress>) -> Result<(), ClusterError> {
        let _turn = self.0.turn.lock().await;
        let all = self.of(node, |state| {
            put(&mut state.stress, id, stress);
            state.stress.values().copied().reduce(|one, other| Stress {
                cores: one.cores + other.cores,
                percent: one.percent.max(other.percent),
                memory: one.memory + other.memory,
            })
        });
        let done = cluster.set_stress(node, all).await;
        self.0.changed.send_modify(|count| *count += 1);
        done
    }

    /// Sets the change that the fault `id` makes to the definition of a node; `None` ends the change.
    pub async fn define(&self, cluster: &dyn Cluster, node: &str, id: &str, definition: Option<Redefinition>) -> Result<(), ClusterError> {
        let _turn = self.0.turn.lock().await;
        let all = self.of(node, |state| {
            put(&mut state.definition, id, definition);
            state.definition.values().cloned().reduce(|mut one, other| {
                one.env.extend(other.env);
                one.args = other.args.or(one.args);
                one
            })
        });
        let done = cluster.redefine(node, all.as_ref()).await;
        self.0.changed.send_modify(|count| *count += 1);
        done
    }

    /// Waits until the fault `id` has no effect on the disk, clock, load or definition of the node. Returns false if the effects can no
    /// longer change.
    pub async fn left(&self, node: &str, id: &str) -> bool {
        let mut changed = self.0.changed.subscribe();
        loop {
            let there = self.of(node, |state| {
                state.disk.contains_key(id)
                    || state.clock.contains_key(id)
                    || state.stress.contains_key(id)
                    || state.definition.contains_key(id)
            });
            if !there {
                return true;
            }
            if changed.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Returns true if the fault `id` currently has an effect on the clock or the load of the node.
    #[must_use]
    pub fn is_on(&self, node: &str, id: &str) -> bool {
        self.of(node, |state| state.stress.contains_key(id) || state.clock.contains_key(id))
    }

    fn of<T>(&self, node: &str, change: impl FnOnce(&mut OfNode) -> T) -> T {
        let mut nodes = self.0.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(nodes.entry(node.to_owned()).or_default())
    }

    /// Removes all effects on links at the end of a trial, while the cluster still runs. Errors are ignored.
    pub async fn mend(&self, cluster: &dyn Cluster) {
        let _turn = self.0.turn.lock().await;
        if self.0.links.send_replace(ByFault::default()).is_empty() {
            return;
        }
        // Effects that cannot be removed now end with the cluster, or when their lease ends.
        let _ = cluster.set_links(&[], 0).await;
    }
}

fn both_disks(one: DiskFault, other: &DiskFault) -> DiskFault {
    let mut operations = one.operations;
    operations.extend(other.operations.iter().copied().filter(|operation| !operations.contains(operation)).collect::<Vec<_>>());
    DiskFault {
        read_delay: one.read_delay + other.read_delay,
        write_delay: one.write_delay + other.write_delay,
        sync_delay: one.sync_delay + other.sync_delay,
        error: 1.0 - (1.0 - one.error) * (1.0 - other.error),
        errno: if other.error > one.error { other.errno } else { one.errno },
        operations,
        read_only: one.read_only || other.read_only,
    }
}

/// Identity of a path: sender, receiver and port.
type Name<'a> = (&'a str, &'a str, Option<&'a str>);

/// Combines the paths of all faults. Returns one path per direction, and one more path per port that a fault names. Effects on a whole link
/// also apply to its ports.
pub(crate) fn computed<'a>(paths: impl Iterator<Item = &'a LinkPath>) -> Vec<LinkPath> {
    let paths: Vec<&LinkPath> = paths.filter(|path| path.from != path.to).collect();
    let mut named: BTreeMap<Name, (Option<CutMode>, Shape)> = BTreeMap::new();
    for path in &paths {
        named.entry((&path.from, &path.to, path.port.as_deref())).or_default();
    }
    for ((from, to, port), (cut, shape)) in &mut named {
        let concerns = |path: &&&LinkPath| path.from == *from && path.to == *to && (path.port.is_none() || path.port.as_deref() == *port);
        for path in paths.iter().filter(concerns) {
            *cut = (*cut).max(path.cut);
            *shape = shape.and(&path.shape);
        }
    }
    let path = |((from, to, port), (cut, shape)): (Name, _)| LinkPath {
        from: from.to_owned(),
        to: to.to_owned(),
        port: port.map(str::to_owned),
        cut,
        shape,
    };
    named.into_iter().map(path).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn path(from: &str, to: &str, port: Option<&str>, cut: Option<CutMode>, delay_ms: u64) -> LinkPath {
        let shape = Shape { delay: Duration::from_millis(delay_ms), ..Shape::default() };
        LinkPath { from: from.into(), to: to.into(), port: port.map(Into::into), cut, shape }
    }

    #[test]
    fn several_faults_on_a_link_are_one_ruleset() {
        let faults = [
            path("a", "b", None, None, 5),
            path("a", "b", Some("peer"), Some(CutMode::Stall), 1),
            path("a", "b", None, Some(CutMode::Drop), 2),
            path("b", "a", Some("client"), None, 4),
            path("a", "a", None, Some(CutMode::Reject), 0),
        ];
        let told: Vec<_> =
            computed(faults.iter()).into_iter().map(|path| (path.from, path.port, path.cut, path.shape.delay.as_millis())).collect();
        let port = |name: &str| Some(name.to_owned());
        assert_eq!(
            told,
            [
                ("a".into(), None, Some(CutMode::Drop), 7),
                ("a".into(), port("peer"), Some(CutMode::Drop), 8),
                ("b".into(), port("client"), None, 4),
            ]
        );
    }
}
