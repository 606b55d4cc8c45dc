//! Faults of links: who sends to whom, and what becomes of it.

use std::time::Duration;

use super::fault::{Ground, amount, ramped};
use super::{Checker, item_of, quantity, target, unknown};
use crate::cluster::harm::Shape;
use crate::diagnostic::{Diagnostic, Pointer};
use crate::scenario::model::{CutMode, Fault, LinkFault, LinkKind, Partition, Pick, Ramp, Split, Target, TargetOf};
use crate::scenario::names;
use crate::scenario::raw::{
    Ends, OneOrMany, RawBandwidth, RawConnectionReset, RawLatency, RawNetworkPartition, RawPacketLoss, RawReorder, RawTarget, Short,
};

/// Who sends to whom, and what becomes of it.
pub(super) fn link(
    check: &mut Checker,
    pointer: &Pointer,
    kind: LinkKind,
    ends: &Ends,
    shape: Shape,
    ramp: Option<Ramp>,
    ground: &Ground,
) -> Option<Fault> {
    if ends.from.is_none() && ends.to.is_none() {
        let problem = Diagnostic::error("bad_target", "this fault names no nodes").label("expected `from:`, `to:` or both in this map");
        check.wrong_key(pointer, problem.help("`to: { role: tikv, pick: 1 }`: what all others send to it"));
        return None;
    }
    let mut side = |name: &str, raw: Option<&Short<RawTarget>>| match raw {
        None => Some(None),
        Some(raw) => target::group(check, &pointer.key(name), raw, ground.cluster, ground.doc).map(Some),
    };
    let (from, to) = (side("from", ends.from)?, side("to", ends.to)?);
    linked(check, pointer, from.as_ref(), to.as_ref(), ground);
    let listed = OneOrMany(ends.ports.to_vec());
    ports(check, &pointer.key("ports"), &listed, ground);
    Some(Fault::Link(LinkFault { kind, from, to, ports: listed.0, symmetric: ends.symmetric, shape, ramp }))
}

/// Whether there is a link between both sides, whoever is chosen: a side that is not named is everybody else.
fn linked(check: &mut Checker, pointer: &Pointer, from: Option<&Target>, to: Option<&Target>, ground: &Ground) {
    let mut named = Vec::new();
    for target in from.iter().chain(&to) {
        // What a `select` gives is known only when it is injected.
        let Some(nodes) = crate::plan::target::candidates(target, ground.cluster) else { return };
        named.push((nodes, target.pick));
    }
    let all = ground.cluster.nodes.len();
    let message = match named.as_slice() {
        _ if ground.doc.lost("nodes") => return,
        [(nodes, pick)] => {
            let everybody = nodes.len() == all && (*pick == Pick::All || matches!(pick, Pick::Count(count) if *count >= all));
            everybody.then(|| "everybody is on one side, and nobody is left on the other".to_owned())
        }
        [(one, _), (other, _)] if one.len() == 1 && one == other => Some(format!("{} has no link to itself", one[0])),
        _ => None,
    };
    if let Some(message) = message {
        let problem = Diagnostic::error("no_links", message).label("expected two sides");
        check.wrong_key(
            pointer,
            problem.help(format!("nodes: {}", names::listed(ground.cluster.nodes.iter().map(|node| node.name.as_str())))),
        );
    }
}

/// Names that no node has would let everything pass.
fn ports(check: &mut Checker, pointer: &Pointer, ports: &OneOrMany<String>, ground: &Ground) {
    let known: Vec<&str> = ground.cluster.nodes.iter().flat_map(|node| node.ports.keys()).map(String::as_str).collect();
    for (at, port) in ports.0.iter().enumerate() {
        if !known.contains(&port.as_str()) && !ground.doc.lost("nodes") {
            let mut distinct = known.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let problem = unknown("unknown_port", "port", port, distinct.iter().copied());
            let pointer = item_of(check.doc, pointer, ports, at);
            check.wrong(&pointer, problem);
        }
    }
}

pub(super) fn latency(check: &mut Checker, pointer: &Pointer, raw: &RawLatency, ground: &Ground) -> Option<Fault> {
    let delay = ramped(check, &pointer.key("delay"), &raw.delay, |text| Ok(quantity::duration(text)?.as_secs_f64()));
    let jitter = check.duration(&pointer.key("jitter"), raw.jitter.as_ref(), Duration::ZERO);
    let correlation = amount(check, &pointer.key("correlation"), raw.correlation.as_ref(), quantity::percent);
    let (delay, ramp) = delay?;
    let delay = Duration::from_secs_f64(delay);
    if delay.is_zero() && ramp.is_none() && jitter.is_zero() {
        check.wrong(&pointer.key("delay"), Diagnostic::error("out_of_range", "no delay at all").label("expected more than nothing"));
    }
    let shape = Shape {
        delay,
        jitter,
        correlation: correlation.unwrap_or_default() / 100.0,
        distribution: raw.distribution.unwrap_or_default(),
        ..Shape::default()
    };
    link(check, pointer, LinkKind::Latency, &raw.ends(), shape, ramp, ground)
}

pub(super) fn packet_loss(check: &mut Checker, pointer: &Pointer, raw: &RawPacketLoss, ground: &Ground) -> Option<Fault> {
    let loss = ramped(check, &pointer.key("percent"), &raw.percent, |text| Ok(quantity::percent(text)? / 100.0));
    let correlation = amount(check, &pointer.key("correlation"), raw.correlation.as_ref(), quantity::percent);
    let (loss, ramp) = loss?;
    let shape = Shape { loss, loss_correlation: correlation.unwrap_or_default() / 100.0, ..Shape::default() };
    link(check, pointer, LinkKind::PacketLoss, &raw.ends(), shape, ramp, ground)
}

pub(super) fn reorder(check: &mut Checker, pointer: &Pointer, raw: &RawReorder, ground: &Ground) -> Option<Fault> {
    let share = amount(check, &pointer.key("percent"), Some(&raw.percent), quantity::percent)?;
    let by = check.duration(&pointer.key("delay"), raw.delay.as_ref(), Duration::from_millis(10));
    let shape = Shape { reorder: share / 100.0, reorder_by: by, ..Shape::default() };
    link(check, pointer, LinkKind::Reorder, &raw.ends(), shape, None, ground)
}

pub(super) fn bandwidth(check: &mut Checker, pointer: &Pointer, raw: &RawBandwidth, ground: &Ground) -> Option<Fault> {
    let (rate, ramp) = ramped(check, &pointer.key("rate"), &raw.rate, quantity::rate)?;
    let shape = LinkKind::Bandwidth.with(Shape::default(), rate);
    link(check, pointer, LinkKind::Bandwidth, &raw.ends(), shape, ramp, ground)
}

pub(super) fn connection_reset(check: &mut Checker, pointer: &Pointer, raw: &RawConnectionReset, ground: &Ground) -> Option<Fault> {
    let share = amount(check, &pointer.key("percent"), raw.percent.as_ref(), quantity::percent).unwrap_or(100.0);
    let shape = Shape { reset: share / 100.0, ..Shape::default() };
    link(check, pointer, LinkKind::ConnectionReset, &raw.ends(), shape, None, ground)
}

pub(super) fn partition(check: &mut Checker, pointer: &Pointer, raw: &RawNetworkPartition, ground: &Ground) -> Option<Fault> {
    let words = ["isolate", "groups", "halves", "bridge", "majorities_ring", "minority_third"];
    let RawNetworkPartition { isolate, from, groups, halves, bridge, majorities_ring, minority_third, .. } = raw;
    let there =
        [isolate.is_some(), groups.is_some(), halves.is_some(), bridge.is_some(), majorities_ring.is_some(), minority_third.is_some()];
    let given: Vec<&str> = words.into_iter().zip(there).filter(|(_, there)| *there).map(|(word, _)| word).collect();
    let [word] = given.as_slice() else {
        let message = if given.is_empty() { "this partition cuts nothing".to_owned() } else { format!("{} at once", names::listed(given)) };
        let problem = Diagnostic::error("bad_partition", message).label(format!("expected exactly one of {}", names::listed(words)));
        check.wrong_key(pointer, problem);
        return None;
    };
    if from.is_some() && isolate.is_none() {
        let problem = Diagnostic::error("bad_partition", "`from` goes with `isolate` alone").label("not with this kind of partition");
        check.wrong_key(&pointer.key("from"), problem);
    }
    let at = pointer.key(*word);
    let one = |check: &mut Checker, raw: &Short<RawTarget>, least: usize| {
        let target = target::group(check, &at, raw, ground.cluster, ground.doc)?;
        let known = crate::plan::target::candidates(&target, ground.cluster);
        if let Some(known) = known.filter(|known| known.len() < least) {
            let message = format!("{} nodes are too few for `{word}`", known.len());
            check.wrong(&at, Diagnostic::error("too_few_targets", message).label(format!("expected at least {least}")));
        }
        Some(target)
    };
    let split = if let Some(raw) = isolate {
        let target = target::target(check, &at, raw, ground.cluster, ground.doc);
        let from = match from {
            None => None,
            Some(from) => Some(target::group(check, &pointer.key("from"), from, ground.cluster, ground.doc)?),
        };
        let target = target?;
        linked(check, pointer, from.as_ref(), Some(&target), ground);
        Split::Isolate { target, from }
    } else if let Some(raw) = groups {
        Split::Groups(self::groups(check, &at, raw, ground)?)
    } else if let Some(raw) = halves {
        Split::Halves(one(check, raw, 2)?)
    } else if let Some(raw) = bridge {
        Split::Bridge(one(check, raw, 3)?)
    } else if let Some(raw) = majorities_ring {
        Split::MajoritiesRing(one(check, raw, 3)?)
    } else {
        Split::MinorityThird(one(check, minority_third.as_ref()?, 4)?)
    };
    ports(check, &pointer.key("ports"), &raw.ports, ground);
    let mode = raw.mode.unwrap_or(CutMode::Drop);
    Some(Fault::NetworkPartition(Partition { split, ports: raw.ports.0.clone(), one_way: raw.one_way, mode }))
}

fn groups(check: &mut Checker, pointer: &Pointer, raw: &[Short<RawTarget>], ground: &Ground) -> Option<Vec<Target>> {
    let found = raw.iter().enumerate();
    let found: Option<Vec<Target>> =
        found.map(|(at, raw)| target::group(check, &pointer.index(at), raw, ground.cluster, ground.doc)).collect();
    let found = found?;
    if found.len() < 2 {
        let problem = Diagnostic::error("bad_partition", format!("{} group", found.len())).label("expected at least two");
        check.wrong(pointer, problem);
        return None;
    }
    // Who is not taken by chance cannot be named by another group, whatever the seed is.
    let taken = |group: &Target| {
        crate::plan::target::candidates(group, ground.cluster).is_some_and(|nodes| match group.pick {
            Pick::All => false,
            Pick::Count(count) => count < nodes.len(),
            Pick::Percent(_) | Pick::Majority | Pick::Minority => true,
        })
    };
    if let Some(at) = found.iter().position(taken) {
        let problem = Diagnostic::error("missed_nodes", "who is not chosen would be in no group").label("expected all of them");
        check.wrong(&pointer.index(at), problem.help("`isolate`, `halves` and `minority_third` choose some of the nodes"));
        return None;
    }
    // What a `select` gives is known only when it is injected: then it is looked at again.
    let whole = found.iter().all(|group| !matches!(group.of, TargetOf::Select(_)));
    let mut seen: Vec<String> = Vec::new();
    for (at, group) in found.iter().enumerate().filter(|_| whole) {
        for node in crate::plan::target::candidates(group, ground.cluster).unwrap_or_default() {
            if seen.contains(&node) {
                let problem = Diagnostic::error("bad_partition", format!("{node} is in two groups")).label("expected each node once");
                check.wrong(&pointer.index(at), problem);
                return None;
            }
            seen.push(node);
        }
    }
    let missed: Vec<&str> =
        ground.cluster.nodes.iter().map(|node| node.name.as_str()).filter(|node| !seen.iter().any(|seen| seen == node)).collect();
    if whole && !missed.is_empty() && !ground.doc.lost("nodes") {
        let problem =
            Diagnostic::error("missed_nodes", format!("{} in no group", if missed.len() == 1 { "a node is" } else { "nodes are" }));
        let problem = problem.label(format!("expected {} in one of them", names::listed(missed)));
        check.wrong(pointer, problem.help("a node in no group could speak to all of them; `bridge` means that"));
        return None;
    }
    Some(found)
}

impl LinkKind {
    /// The shape with another value of what the kind is about, in the unit of its ramps.
    #[must_use]
    pub fn with(self, shape: Shape, value: f64) -> Shape {
        match self {
            Self::Latency => Shape { delay: Duration::from_secs_f64(value.max(0.0)), ..shape },
            Self::PacketLoss => Shape { loss: value, ..shape },
            Self::Duplicate => Shape { duplicate: value, ..shape },
            Self::Corrupt => Shape { corrupt: value, ..shape },
            Self::Reorder => Shape { reorder: value, ..shape },
            Self::ConnectionReset => Shape { reset: value, ..shape },
            Self::Bandwidth => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes a second, at least 1000")]
                let rate = value as u64;
                Shape { rate: Some(rate), ..shape }
            }
        }
    }
}
