//! Paths of a fault of links, computed without IO from the chosen nodes.

use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::SliceRandom;
use serde::Serialize;

use super::links::LinkFault;
use crate::Target;
use chaosrun_cluster::Topology;
use chaosrun_cluster::fault_control::{CutMode, LinkPath, Shape};

/// Direction of a link: sender and receiver.
type Direction = (String, String);

/// Partition with its parameters resolved.
#[derive(Debug, Clone, Serialize)]
pub struct Partition {
    pub split: Split,
    /// Names of the ports whose connections are affected; empty means all connections.
    pub ports: Vec<String>,
    /// True if only one direction is cut. With `isolate`, this is the direction from the other nodes to the targets. With groups, it is the
    /// direction from later groups to earlier groups.
    pub one_way: bool,
    pub mode: CutMode,
}

/// Kind of split of the nodes by a partition. The names are the names in the nemesis of Jepsen.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Cuts the target nodes off from all other nodes, or only from the nodes `from`.
    Isolate { target: Target, from: Option<Target> },
    /// Cuts each group of nodes off from every other group.
    Groups(Vec<Target>),
    /// Splits the nodes into two halves; for an odd number of nodes the first half is smaller.
    Halves(Target),
    /// Splits the nodes into two halves and one bridge node, which reaches both halves.
    Bridge(Target),
    /// Lets each node receive only from a majority, such that no two nodes have the same majority.
    MajoritiesRing(Target),
    /// Cuts fewer than a third of the nodes off from the rest.
    MinorityThird(Target),
}

/// Returns the paths of a fault that changes the shape of links.
pub fn shaped(fault: &LinkFault, from: &[String], to: &[String], topology: &Topology) -> Vec<LinkPath> {
    let mut directions = BTreeSet::new();
    for from in from {
        for to in to.iter().filter(|to| *to != from) {
            directions.insert((from.clone(), to.clone()));
            if fault.symmetric {
                directions.insert((to.clone(), from.clone()));
            }
        }
    }
    paths(directions, &fault.ports, None, fault.shape, topology)
}

/// Returns the nodes that a partition affects, and the cut paths. `groups` are the chosen nodes of the targets of the partition.
///
/// # Errors
/// Returns an error if the groups omit nodes, or contain a node twice.
pub fn partition(
    fault: &Partition,
    groups: &[Vec<String>],
    from: Option<Vec<String>>,
    all: &[String],
    rng: &mut impl Rng,
    topology: &Topology,
) -> Result<(Vec<String>, Vec<LinkPath>), String> {
    let first = groups.first().cloned().unwrap_or_default();
    let mut shuffled = first.clone();
    let (targets, heard) = match &fault.split {
        Split::Isolate { .. } => {
            let others = from.unwrap_or_else(|| all.iter().filter(|name| !first.contains(name)).cloned().collect());
            (first.clone(), between(&others, &first, fault.one_way))
        }
        Split::Groups(_) => {
            for node in all {
                match groups.iter().filter(|group| group.contains(node)).count() {
                    1 => (),
                    0 => return Err(format!("{node} is in no group")),
                    _ => return Err(format!("{node} is in two groups")),
                }
            }
            (first, apart(groups, fault.one_way))
        }
        Split::Halves(_) => {
            shuffled.shuffle(rng);
            let (smaller, larger) = shuffled.split_at(shuffled.len() / 2);
            (sorted(smaller), between(larger, smaller, fault.one_way))
        }
        Split::Bridge(_) => {
            shuffled.shuffle(rng);
            // The first node is the bridge, which keeps its links to both halves.
            let rest = shuffled.get(1..).unwrap_or_default();
            let (one, other) = rest.split_at(rest.len() / 2);
            (sorted(one), between(other, one, fault.one_way))
        }
        Split::MajoritiesRing(_) => {
            shuffled.shuffle(rng);
            (sorted(&shuffled), ring(&shuffled))
        }
        Split::MinorityThird(_) => {
            shuffled.shuffle(rng);
            let fewer = (shuffled.len().saturating_sub(1) / 3).max(1).min(shuffled.len());
            let (few, rest) = shuffled.split_at(fewer);
            (sorted(few), between(rest, few, fault.one_way))
        }
    };
    Ok((targets, paths(heard, &fault.ports, Some(fault.mode), Shape::default(), topology)))
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

/// Returns the directions from `others` to `targets`, and the opposite directions unless `one_way` is true. A direction never connects a
/// node with itself.
fn between(others: &[String], targets: &[String], one_way: bool) -> BTreeSet<Direction> {
    let mut cut = BTreeSet::new();
    for to in targets {
        for from in others.iter().filter(|from| *from != to) {
            cut.insert((from.clone(), to.clone()));
            if !one_way {
                cut.insert((to.clone(), from.clone()));
            }
        }
    }
    cut
}

fn apart(groups: &[Vec<String>], one_way: bool) -> BTreeSet<Direction> {
    let mut cut = BTreeSet::new();
    for (at, group) in groups.iter().enumerate() {
        for later in &groups[at + 1..] {
            cut.extend(between(later, group, one_way));
        }
    }
    cut
}

/// Returns the cut directions of a ring. Each node receives only from its nearest neighbours on both sides. These neighbours and the node
/// form a majority, and all majorities differ.
fn ring(nodes: &[String]) -> BTreeSet<Direction> {
    let count = nodes.len();
    let majority = count / 2 + 1;
    let ahead = (majority - 1).div_ceil(2);
    let behind = majority - 1 - ahead;
    let mut cut = BTreeSet::new();
    for (at, to) in nodes.iter().enumerate() {
        for (other, from) in nodes.iter().enumerate().filter(|(other, _)| *other != at) {
            let distance = (other + count - at) % count;
            if !(distance <= ahead || count - distance <= behind) {
                cut.insert((from.clone(), to.clone()));
            }
        }
    }
    cut
}

/// Returns one path per direction and port, for ports that one of the two nodes declares. If `ports` is empty, returns one path per
/// direction for the whole link.
fn paths(directions: BTreeSet<Direction>, ports: &[String], cut: Option<CutMode>, shape: Shape, topology: &Topology) -> Vec<LinkPath> {
    let has = |node: &str, port: &String| topology.node(node).is_some_and(|node| node.ports.contains_key(port));
    let mut paths = Vec::new();
    for (from, to) in directions {
        if ports.is_empty() {
            paths.push(LinkPath { from, to, port: None, cut, shape });
            continue;
        }
        for port in ports.iter().filter(|port| has(&to, port) || has(&from, port)) {
            paths.push(LinkPath { from: from.clone(), to: to.clone(), port: Some(port.clone()), cut, shape });
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_base::seed;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn told(fault: Split, one_way: bool, groups: &[&[&str]], from: Option<&[&str]>) -> Result<Vec<String>, String> {
        let all = names(&["a", "b", "c", "d", "e"]);
        let fault = Partition { split: fault, ports: Vec::new(), one_way, mode: CutMode::Drop };
        let groups: Vec<_> = groups.iter().map(|group| names(group)).collect();
        let topology = Topology { nodes: Vec::new() };
        let (_, paths) = partition(&fault, &groups, from.map(names), &all, &mut seed::stream(1, "test"), &topology)?;
        Ok(paths.into_iter().map(|path| format!("{}>{}", path.from, path.to)).collect())
    }

    fn target() -> Target {
        use crate::{Pick, TargetOf};
        Target { of: TargetOf::All, pick: Pick::All, except: Vec::new(), place: None }
    }

    #[test]
    fn isolation_cuts_both_directions_or_only_those_to_the_targets() {
        let isolate = || Split::Isolate { target: target(), from: None };
        assert_eq!(told(isolate(), true, &[&["a"]], Some(&["b", "a"])).unwrap(), ["b>a"]);
        assert_eq!(told(isolate(), false, &[&["a"]], None).unwrap().len(), 8);
        assert_eq!(told(isolate(), false, &[&["a", "b"]], None).unwrap().len(), 12, "those that are isolated stay together");
    }

    #[test]
    fn groups_must_include_every_node() {
        let groups = || Split::Groups(vec![target(), target()]);
        assert_eq!(told(groups(), false, &[&["a", "b"], &["c", "d", "e"]], None).unwrap().len(), 12);
        assert_eq!(told(groups(), true, &[&["a"], &["b", "c", "d", "e"]], None).unwrap(), ["b>a", "c>a", "d>a", "e>a"]);
        assert_eq!(told(groups(), false, &[&["a", "b"], &["c", "d"]], None), Err("e is in no group".into()));
        assert_eq!(told(groups(), false, &[&["a", "b"], &["b", "c", "d", "e"]], None), Err("b is in two groups".into()));
    }

    /// Returns, for each node, the nodes from which it receives data, including itself.
    fn heard(cut: &[String]) -> Vec<Vec<String>> {
        let all = names(&["a", "b", "c", "d", "e"]);
        let hears = |to: &String| all.iter().filter(|from| !cut.contains(&format!("{from}>{to}"))).cloned().collect();
        all.iter().map(hears).collect()
    }

    #[test]
    fn shapes_match_their_usual_definitions() {
        let five: &[&[&str]] = &[&["a", "b", "c", "d", "e"]];
        let ring = heard(&told(Split::MajoritiesRing(target()), false, five, None).unwrap());
        assert!(ring.iter().all(|seen| seen.len() == 3), "each hears a majority: {ring:?}");
        let distinct: BTreeSet<_> = ring.iter().collect();
        assert_eq!(distinct.len(), 5, "no two the same one");

        let mut sizes: Vec<usize> = heard(&told(Split::Bridge(target()), false, five, None).unwrap()).iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [3, 3, 3, 3, 5], "one sees all");

        let mut sizes: Vec<usize> = heard(&told(Split::Halves(target()), false, five, None).unwrap()).iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 2, 3, 3, 3]);
        let third = heard(&told(Split::MinorityThird(target()), false, five, None).unwrap());
        assert_eq!(third.iter().filter(|seen| seen.len() == 1).count(), 1, "one of five is fewer than a third");
    }
}
