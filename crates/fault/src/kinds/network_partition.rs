//! `network_partition`: links between nodes are cut, in both directions or in one direction. Connections of clients are not affected.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::description::on;
use crate::network::links::{check_ports, linked, some};
use crate::network::paths::{Partition, Split};
use crate::network::{NodePair, RELAY, Watched, contact, installed, median, paths, ping, read_back, still_there, untouched, watched};
use crate::target::{group, target};
use crate::{
    Choice, Chooser, DOCKER, FELT_WITHIN, FaultContext, FaultDescription, FaultFinding, Feature, Injection, LOCAL, PATIENT, PROBE, Pick,
    RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target, TargetOf, Way, ms,
};
use chaosrun_base::seed;
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{CutMode, LinkPath};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_input::{OneOrMany, Short, names};

/// Fixed data of the fault `network_partition`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "network_partition",
    summary: "Cuts links between nodes. Links of clients are not affected. An agent cannot repair it, so `heal` is required.",
    example: "network_partition: { isolate: leader }",
    backends: &[on(LOCAL, RELAY), on(DOCKER, RULES)],
    refused: "",
    repair: Repair::Nobody,
    class: "network_partition",
    holds: None,
    prepares: None,
};

const RULES: &[Way] = &[Way { how: "nftables rules in the network namespace of the node", needs: &[Feature::Nftables] }];

/// Requires exactly one of `isolate`, `groups`, `halves`, `bridge`, `majorities_ring`, `minority_third`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "network_partition")]
pub struct Parameters {
    /// Nodes that are cut from all other nodes. They stay connected with each other.
    pub isolate: Option<Short<RawTarget>>,
    /// Nodes from which the nodes in `isolate` are cut [default: all other nodes]. A role means all of its nodes.
    pub from: Option<Short<RawTarget>>,
    /// Groups of nodes that are cut from each other. Each node must be in exactly one group.
    pub groups: Option<Vec<Short<RawTarget>>>,
    /// Nodes that are split into two halves, which are cut from each other.
    pub halves: Option<Short<RawTarget>>,
    /// Nodes that are split into two halves and one other node. The halves are cut from each other, but stay connected with the other node.
    pub bridge: Option<Short<RawTarget>>,
    /// Nodes of which each receives data only from a majority. No two nodes have the same majority.
    pub majorities_ring: Option<Short<RawTarget>>,
    /// Nodes of which fewer than a third are cut from the rest.
    pub minority_third: Option<Short<RawTarget>>,
    /// Names of ports. Only connections to these ports are affected [default: all connections].
    #[serde(default)]
    pub ports: OneOrMany<String>,
    /// Cuts only one direction: the isolated nodes can send but not receive. With `groups`, earlier groups can send to later groups but not
    /// receive from them [default: false, both directions].
    #[serde(default)]
    pub one_way: bool,
    /// How links are cut: `drop` (data is lost silently), `reject` (the sender receives an immediate refusal) or `stall` (data waits until
    /// the link is healed) [default: `drop`].
    pub mode: Option<CutMode>,
}

/// Checks the parameters of `network_partition`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let words = ["isolate", "groups", "halves", "bridge", "majorities_ring", "minority_third"];
    let Parameters { isolate, from, groups, halves, bridge, majorities_ring, minority_third, .. } = read;
    let there =
        [isolate.is_some(), groups.is_some(), halves.is_some(), bridge.is_some(), majorities_ring.is_some(), minority_third.is_some()];
    let given: Vec<&str> = words.into_iter().zip(there).filter(|(_, there)| *there).map(|(word, _)| word).collect();
    let [word] = given.as_slice() else {
        let message = if given.is_empty() {
            "this partition cuts nothing".to_owned()
        } else {
            format!("{} are set at the same time", names::listed(given))
        };
        let problem = Diagnostic::error("bad_partition", message).label(format!("expected exactly one of {}", names::listed(words)));
        to.wrong_fault(problem);
        return None;
    };
    if from.is_some() && isolate.is_none() {
        let problem = Diagnostic::error("bad_partition", "`from` is only valid with `isolate`").label("not used by this kind of partition");
        to.check.wrong_key(&to.at.key("from"), problem);
    }
    let at = to.at.key(*word);
    let one = |to: &mut Resolver, read: &Short<RawTarget>, least: usize| {
        let target = group(to.check, &at, read, to.ground)?;
        let known = to.ground.candidates(&target);
        if let Some(known) = known.filter(|known| known.len() < least) {
            let message = format!("{} nodes are too few for `{word}`", known.len());
            to.check.wrong(&at, Diagnostic::error("too_few_targets", message).label(format!("expected at least {least}")));
        }
        Some(target)
    };
    let split = if let Some(read) = isolate {
        let target = target(to.check, &at, read, to.ground);
        let from = match from {
            None => None,
            Some(from) => Some(group(to.check, &to.at.key("from"), from, to.ground)?),
        };
        let target = target?;
        linked(to, from.as_ref(), Some(&target));
        Split::Isolate { target, from }
    } else if let Some(read) = groups {
        Split::Groups(self::groups(to, &at, read)?)
    } else if let Some(read) = halves {
        Split::Halves(one(to, read, 2)?)
    } else if let Some(read) = bridge {
        Split::Bridge(one(to, read, 3)?)
    } else if let Some(read) = majorities_ring {
        Split::MajoritiesRing(one(to, read, 3)?)
    } else {
        Split::MinorityThird(one(to, minority_third.as_ref()?, 4)?)
    };
    check_ports(to, &read.ports);
    let mode = read.mode.unwrap_or(CutMode::Drop);
    Some(Resolution::of(Partition { split, ports: read.ports.0.clone(), one_way: read.one_way, mode }))
}

fn groups(to: &mut Resolver, pointer: &Pointer, read: &[Short<RawTarget>]) -> Option<Vec<Target>> {
    let ground = to.ground;
    let found = read.iter().enumerate();
    let found: Option<Vec<Target>> = found.map(|(at, read)| group(to.check, &pointer.index(at), read, ground)).collect();
    let found = found?;
    if found.len() < 2 {
        let problem = Diagnostic::error("bad_partition", format!("too few groups: {}", found.len())).label("expected at least two groups");
        to.check.wrong(pointer, problem);
        return None;
    }
    // Nodes that the random choice leaves out are not in any group.
    let taken = |group: &Target| {
        ground.candidates(group).is_some_and(|nodes| match group.pick {
            Pick::All => false,
            Pick::Count(count) => count < nodes.len(),
            Pick::Percent(_) | Pick::Majority | Pick::Minority => true,
        })
    };
    if let Some(at) = found.iter().position(taken) {
        let problem =
            Diagnostic::error("missed_nodes", "nodes that are not chosen would be in no group").label("expected all nodes of the target");
        to.check.wrong(
            &pointer.index(at),
            problem.help("remove `pick`, or use `isolate`, `halves` or `minority_third`, which choose some of the nodes"),
        );
        return None;
    }
    // The nodes of a `select` are determined only at the injection, which checks the groups again.
    let whole = found.iter().all(|group| !matches!(group.of, TargetOf::Select(_)));
    let mut seen: Vec<String> = Vec::new();
    for (at, group) in found.iter().enumerate().filter(|_| whole) {
        for node in ground.candidates(group).unwrap_or_default() {
            if seen.contains(&node) {
                let problem = Diagnostic::error("bad_partition", format!("{node} is in two groups")).label("expected each node once");
                to.check.wrong(&pointer.index(at), problem);
                return None;
            }
            seen.push(node);
        }
    }
    let missed: Vec<&str> =
        ground.nodes.iter().map(|node| node.name.as_str()).filter(|node| !seen.iter().any(|seen| seen == node)).collect();
    if whole && !missed.is_empty() && !ground.doc.lost("nodes") {
        let problem =
            Diagnostic::error("missed_nodes", format!("{} in no group", if missed.len() == 1 { "a node is" } else { "nodes are" }));
        let problem = problem.label(format!("expected {} in one of them", names::listed(missed)));
        to.check.wrong(pointer, problem.help("add the nodes to a group; for a node that stays connected with all groups, use `bridge`"));
        return None;
    }
    Some(found)
}

#[async_trait]
impl ResolvedFault for Partition {
    fn targets(&self) -> Vec<&Target> {
        match &self.split {
            Split::Isolate { target, .. }
            | Split::Halves(target)
            | Split::Bridge(target)
            | Split::MajoritiesRing(target)
            | Split::MinorityThird(target) => vec![target],
            Split::Groups(groups) => groups.iter().collect(),
        }
    }

    async fn choose(&self, chooser: &dyn Chooser) -> Result<Choice, String> {
        let mut groups = Vec::new();
        for (at, wanted) in self.targets().into_iter().enumerate() {
            groups.push(chooser.nodes(wanted, &seed::of_target(at)).await?);
        }
        let from = match &self.split {
            Split::Isolate { from: Some(from), .. } => Some(chooser.nodes(from, "from").await?),
            _ => None,
        };
        let topology = chooser.topology();
        let all = topology.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        let (targets, paths) = paths::partition(self, &groups, from, &all, &mut chooser.stream("shape"), topology)?;
        some(Choice { targets, paths })
    }

    fn injection(&self, paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Cut { paths, watched: OnceLock::new() })
    }
}

struct Cut {
    paths: Vec<LinkPath>,
    /// Measurements before the fault: the watched pairs, one cut pair per target, and the round-trip time of the unaffected pair. One pair
    /// per target ensures that the check covers every isolated node.
    watched: OnceLock<(Watched, Vec<NodePair>, Option<Duration>)>,
}

impl Cut {
    fn pairs(&self) -> &[NodePair] {
        self.watched.get().map_or(&[], |(_, pairs, _)| pairs)
    }
}

#[async_trait]
impl Injection for Cut {
    fn chosen(&self) -> Option<Value> {
        Some(self.paths.iter().map(|path| format!("{} -> {}", path.from, path.to)).collect())
    }

    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let mut pairs: Vec<NodePair> = Vec::new();
        let mut told = Vec::new();
        for target in &context.targets {
            let own: Vec<LinkPath> = self.paths.iter().filter(|path| path.from == *target || path.to == *target).cloned().collect();
            if own.is_empty() {
                continue;
            }
            // A path of a whole link names no port, so the check dials any port.
            let found = watched(context, &own).await?;
            told.push(format!("{} in {}", found.hit.name(), ms(found.took)));
            if !pairs.contains(&found.hit) {
                pairs.push(found.hit);
            }
        }
        // If no cut link can be dialled, no effect can be measured.
        if pairs.is_empty() {
            return Err("no link is cut".into());
        }
        let all = watched(context, &self.paths).await?;
        let rtt = match &all.bystander {
            Some(pair) => ping(context, pair, 9, Duration::from_millis(2), PATIENT).await.ok().as_ref().and_then(median),
            None => None,
        };
        let _ = self.watched.set((all, pairs, rtt));
        Ok(told.join(", "))
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        context.effects.links(&*context.cluster, context.seed, &context.id, &self.paths).await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        installed(context, &self.paths, "cut").await
    }

    async fn hit(&self, context: &FaultContext) -> Option<FaultFinding> {
        let found = read_back(context, &self.paths).await.ok()?;
        let dropped: u64 = found.iter().map(|state| state.counted.map(|counted| counted.dropped)).sum::<Option<u64>>()?;
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        let number = dropped as f64;
        Some(FaultFinding::new(dropped > 0, format!("{dropped} packets did not pass")).with("dropped", number))
    }

    /// Dials the cut pairs until no connection succeeds, and dials one unaffected pair for comparison.
    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        let deadline = Instant::now() + FELT_WITHIN;
        let mut told = Vec::new();
        for pair in self.pairs() {
            loop {
                match contact(context, pair, PROBE).await {
                    Err(how) => {
                        told.push(format!("{} {how}", pair.name()));
                        break;
                    }
                    Ok(took) if Instant::now() > deadline => {
                        return FaultFinding::no(format!("{} still reaches {} in {}", pair.from, pair.to, ms(took)));
                    }
                    Ok(_) => tokio::task::yield_now().await,
                }
            }
        }
        let found = FaultFinding::yes(told.join(", "));
        match self.watched.get() {
            Some((watched, _, before)) => untouched(context, watched, *before, found).await,
            None => found,
        }
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        context.effects.links(&*context.cluster, context.seed, &context.id, &[]).await
    }

    /// Waits until the fault is over and the nodes of the cut pairs reach each other again. Returns `None` if another fault cuts the pairs.
    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        if !context.effects.lifted(&context.id).await {
            return None;
        }
        let healed = Instant::now();
        let mut told = Vec::new();
        for pair in self.pairs() {
            let took = loop {
                let cut = |path: &LinkPath| {
                    path.cut.is_some() && [(&path.from, &path.to), (&path.to, &path.from)].contains(&(&pair.from, &pair.to))
                };
                if context.effects.paths().iter().any(cut) {
                    return None;
                }
                match contact(context, pair, PROBE).await {
                    Ok(took) => break took,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            told.push(format!("{} reaches {} again in {}", pair.from, pair.to, ms(took)));
        }
        Some(FaultFinding::yes(told.join(", ")).time("whole_after_ms", healed.elapsed()))
    }

    async fn intact(&self, context: &FaultContext) -> Option<FaultFinding> {
        still_there(context, &self.paths).await
    }
}
