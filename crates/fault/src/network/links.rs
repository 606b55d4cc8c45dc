//! Common parts of all faults of links. Each fault defines its own measurement of the effect.

use std::fmt::Debug;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{NodePair, Watched, installed, median, paths, ping, read_back, still_there, untouched, watched};
use crate::target::group;
use crate::{
    Choice, Chooser, FaultContext, FaultFinding, Injection, PATIENT, PROBE, Pick, Ramp, RawTarget, Resolution, ResolvedFault, Resolver,
    Target, ms,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{LinkCounters, LinkPath, Pings, Shape};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::{OneOrMany, Short, item_of, names, unknown};

/// Defines the parameter struct of a fault of links: the common parameters, and the parameters of this fault.
macro_rules! link_parameters {
    ($name:literal, $($fields:tt)*) => {
        #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(rename = $name)]
        pub struct Parameters {
            /// Senders [default: all other nodes]. A role means all of its nodes.
            pub from: Option<chaosrun_input::Short<crate::RawTarget>>,
            /// Receivers [default: all other nodes]. A role means all of its nodes.
            pub to: Option<chaosrun_input::Short<crate::RawTarget>>,
            /// Names of ports. Only connections to these ports are affected [default: all connections].
            #[serde(default)]
            pub ports: chaosrun_input::OneOrMany<String>,
            /// Affects the opposite direction too [default: false].
            #[serde(default)]
            pub symmetric: bool,
            $($fields)*
        }

        impl Parameters {
            fn ends(&self) -> crate::network::links::Ends<'_> {
                crate::network::links::Ends {
                    from: self.from.as_ref(),
                    to: self.to.as_ref(),
                    ports: &self.ports,
                    symmetric: self.symmetric,
                }
            }
        }
    };
}
pub(crate) use link_parameters;

/// Unresolved parameters that select the affected links: senders, receivers and ports.
pub struct Ends<'a> {
    pub from: Option<&'a Short<RawTarget>>,
    pub to: Option<&'a Short<RawTarget>>,
    pub ports: &'a OneOrMany<String>,
    pub symmetric: bool,
}

/// Effect of one kind of fault on the packets of a link.
#[async_trait]
pub(crate) trait LinkEffect: Debug + Send + Sync {
    /// Returns the name of the fault.
    fn name(&self) -> &'static str;

    /// Returns `shape` with the strength `value`. The unit of the value is the unit of the ramp of the fault: seconds, a share, or bytes
    /// per second.
    fn with(&self, shape: Shape, value: f64) -> Shape;

    /// Returns a word for messages, and the function that reads the counter of affected packets.
    fn counted(&self) -> (&'static str, fn(&LinkCounters) -> u64);

    /// Measures the throughput before the fault in bytes per second, if the fault limits the rate; otherwise returns `None`.
    async fn throughput(&self, _context: &FaultContext, _pair: &NodePair) -> Result<Option<f64>, String> {
        Ok(None)
    }

    /// Measures the effect of the fault on the affected pair.
    async fn felt(&self, measure: &Measure<'_>) -> FaultFinding;
}

/// Fault of links with its parameters resolved.
#[derive(Debug, Clone, Serialize)]
pub struct LinkFault {
    #[serde(serialize_with = "name")]
    kind: &'static dyn LinkEffect,
    /// Senders of the affected data; `None` means all nodes that are not receivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Target>,
    /// Names of the affected ports; empty means all connections.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// True if the fault affects both directions.
    pub symmetric: bool,
    pub shape: Shape,
    #[serde(skip_serializing_if = "Option::is_none")]
    ramp: Option<Ramp>,
}

fn name<S: Serializer>(kind: &&'static dyn LinkEffect, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// Checks the senders, receivers and ports of a fault of links. Returns the resolution of the fault.
pub(crate) fn resolved(
    to: &mut Resolver,
    kind: &'static dyn LinkEffect,
    ends: &Ends,
    shape: Shape,
    ramp: Option<Ramp>,
) -> Option<Resolution> {
    if ends.from.is_none() && ends.to.is_none() {
        let problem = Diagnostic::error("bad_target", "this fault names no nodes").label("expected `from`, `to` or both in this map");
        to.wrong_fault(problem.help("for example `to: { role: tikv, pick: 1 }`, for the data that all other nodes send to one store"));
        return None;
    }
    let mut side = |name: &str, read: Option<&Short<RawTarget>>| match read {
        None => Some(None),
        Some(read) => group(to.check, &to.at.key(name), read, to.ground).map(Some),
    };
    let (senders, receivers) = (side("from", ends.from)?, side("to", ends.to)?);
    linked(to, senders.as_ref(), receivers.as_ref());
    check_ports(to, ends.ports);
    let (ports, symmetric) = (ends.ports.0.clone(), ends.symmetric);
    let fault = LinkFault { kind, from: senders, to: receivers, ports, symmetric, shape, ramp };
    Some(Resolution::of(fault).under("link"))
}

/// Checks that at least one link exists between senders and receivers, for every choice of nodes. An omitted side consists of all other
/// nodes.
pub(crate) fn linked(to: &mut Resolver, senders: Option<&Target>, receivers: Option<&Target>) {
    let ground = to.ground;
    let mut named = Vec::new();
    for target in senders.iter().chain(&receivers) {
        // The nodes of a `select` are determined only at the injection.
        let Some(nodes) = ground.candidates(target) else { return };
        named.push((nodes, target.pick));
    }
    let all = ground.nodes.len();
    let message = match named.as_slice() {
        _ if ground.doc.lost("nodes") => return,
        [(nodes, pick)] => {
            let everybody = nodes.len() == all && (*pick == Pick::All || matches!(pick, Pick::Count(count) if *count >= all));
            everybody.then(|| "all nodes are on one side of the link, and none is on the other side".to_owned())
        }
        [(one, _), (other, _)] if one.len() == 1 && one == other => Some(format!("{} has no link to itself", one[0])),
        _ => None,
    };
    if let Some(message) = message {
        let problem = Diagnostic::error("no_links", message).label("expected nodes on both sides");
        let nodes = names::listed(ground.nodes.iter().map(|node| node.name.as_str()));
        to.wrong_fault(problem.help(format!("nodes: {nodes}")));
    }
}

/// Checks that the ports exist. With an unknown name, the fault would have no effect.
pub(crate) fn check_ports(to: &mut Resolver, ports: &OneOrMany<String>) {
    let ground = to.ground;
    let known: Vec<&str> = ground.nodes.iter().flat_map(|node| &node.ports).map(String::as_str).collect();
    for (at, port) in ports.0.iter().enumerate() {
        if !known.contains(&port.as_str()) && !ground.doc.lost("nodes") {
            let mut distinct = known.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let problem = unknown("unknown_port", "port", port, distinct.iter().copied());
            let pointer = item_of(to.check.doc, &to.at.key("ports"), ports, at);
            to.check.wrong(&pointer, problem);
        }
    }
}

#[async_trait]
impl ResolvedFault for LinkFault {
    fn targets(&self) -> Vec<&Target> {
        self.to.iter().chain(&self.from).take(1).collect()
    }

    async fn choose(&self, chooser: &dyn Chooser) -> Result<Choice, String> {
        let (to, from) = match (&self.to, &self.from) {
            (Some(to), Some(from)) => both(chooser, to, from).await?,
            (Some(to), None) => with_others(chooser, to).await?,
            (None, Some(from)) => {
                let (from, to) = with_others(chooser, from).await?;
                (to, from)
            }
            (None, None) => (Vec::new(), Vec::new()),
        };
        let paths = paths::shaped(self, &from, &to, chooser.topology());
        // The targets are the nodes of the side that the file names. If the file names both sides, the targets are the receivers.
        some(Choice { targets: if self.to.is_some() { to } else { from }, paths })
    }

    fn injection(&self, paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Shaped { fault: self.clone(), paths: Mutex::new(paths), before: OnceLock::new() })
    }
}

/// Chooses receivers and senders. If both choices are the same single node, another sender is chosen, because a node has no link to itself.
async fn both(chooser: &dyn Chooser, to: &Target, from: &Target) -> Result<(Vec<String>, Vec<String>), String> {
    let (receivers, senders) = (chooser.nodes(to, "target").await?, chooser.nodes(from, "from").await?);
    if receivers != senders || receivers.len() != 1 {
        return Ok((receivers, senders));
    }
    let except = [from.except.as_slice(), &receivers].concat();
    let another = chooser.nodes(&Target { except, ..from.clone() }, "from").await;
    Ok((receivers, another.unwrap_or(senders)))
}

/// Chooses the nodes of one side. Returns these nodes and all other nodes.
async fn with_others(chooser: &dyn Chooser, wanted: &Target) -> Result<(Vec<String>, Vec<String>), String> {
    let chosen = chooser.nodes(wanted, "target").await?;
    let names = chooser.topology().nodes.iter().map(|node| node.name.clone());
    let others = names.filter(|name| !chosen.contains(name)).collect();
    Ok((chosen, others))
}

/// Returns an error if the choice contains no link.
pub(crate) fn some(choice: Choice) -> Result<Choice, String> {
    if choice.paths.is_empty() {
        return Err(format!("no other node is left, so {} has no links that could be changed", choice.targets.join(", ")));
    }
    Ok(choice)
}

struct Shaped {
    fault: LinkFault,
    /// Current paths; changed by the steps of a ramp.
    paths: Mutex<Vec<LinkPath>>,
    before: OnceLock<Before>,
}

/// Measurements of the affected pair before the fault.
#[derive(Debug, Clone)]
pub struct Before {
    pub watched: Watched,
    /// Median of the round-trip times of the affected pair.
    pub rtt: Duration,
    bystander: Option<Duration>,
    /// Throughput in bytes per second; `None` if the fault does not limit the rate.
    pub throughput: Option<f64>,
}

/// Input of a measurement of the effect of a fault.
pub struct Measure<'a> {
    pub context: &'a FaultContext,
    pub before: &'a Before,
    /// Path from the sender to the receiver of the affected pair, with its current shape.
    pub path: LinkPath,
    pub symmetric: bool,
}

impl Shaped {
    fn paths(&self) -> Vec<LinkPath> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn measure<'a>(&self, context: &'a FaultContext, before: &'a Before) -> Option<Measure<'a>> {
        let hit = &before.watched.hit;
        let path = self.paths().into_iter().find(|path| path.from == hit.from && path.to == hit.to && path.port == hit.port)?;
        Some(Measure { context, before, path, symmetric: self.fault.symmetric })
    }
}

#[async_trait]
impl Injection for Shaped {
    fn chosen(&self) -> Option<Value> {
        Some(self.paths().iter().map(|path| format!("{} -> {}", path.from, path.to)).collect())
    }

    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let watched = watched(context, &self.paths()).await?;
        let pings = ping(context, &watched.hit, 9, Duration::from_millis(2), PATIENT).await?;
        let rtt = median(&pings).ok_or_else(|| format!("{} does not answer", watched.hit.name()))?;
        let bystander = match &watched.bystander {
            Some(pair) => ping(context, pair, 9, Duration::from_millis(2), PATIENT).await.ok().as_ref().and_then(median),
            None => None,
        };
        let throughput = self.fault.kind.throughput(context, &watched.hit).await?;
        let detail = match throughput {
            Some(rate) => format!("{} {:.1} MB/s", watched.hit.name(), rate / 1e6),
            None => format!("{} {}", watched.hit.name(), ms(rtt)),
        };
        let _ = self.before.set(Before { watched, rtt, bystander, throughput });
        Ok(detail)
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        context.effects.links(&*context.cluster, context.seed, &context.id, &self.paths()).await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        installed(context, &self.paths(), "changed").await
    }

    async fn hit(&self, context: &FaultContext) -> Option<FaultFinding> {
        let found = read_back(context, &self.paths()).await.ok()?;
        let counted: Option<Vec<LinkCounters>> = found.iter().map(|state| state.counted).collect();
        let counted = counted?;
        let sum = |of: fn(&LinkCounters) -> u64| counted.iter().map(of).sum::<u64>();
        let (word, count) = self.fault.kind.counted();
        let count = sum(count);
        let (packets, bytes) = (sum(|counted| counted.packets), sum(|counted| counted.bytes));
        #[expect(clippy::cast_precision_loss, reason = "counts for people")]
        let numbers = (packets as f64, count as f64);
        let detail = format!("{packets} packets of {bytes} bytes, {count} {word}");
        Some(FaultFinding::new(count > 0, detail).with("packets", numbers.0).with(&word.replace(' ', "_"), numbers.1))
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        let Some(before) = self.before.get() else { return FaultFinding::no("nothing was measured before") };
        let Some(measure) = self.measure(context, before) else { return FaultFinding::no("no link is changed") };
        let found = self.fault.kind.felt(&measure).await;
        untouched(context, &before.watched, before.bystander, found).await
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        context.effects.links(&*context.cluster, context.seed, &context.id, &[]).await
    }

    /// Waits until the affected pair answers as fast as before, unless other faults affect the pair.
    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        if !context.effects.lifted(&context.id).await {
            return None;
        }
        let (before, healed) = (self.before.get()?, Instant::now());
        let pair = &before.watched.hit;
        // Packets that were delayed when the fault ended still arrive late.
        let slack = before.rtt * 3 + Duration::from_millis(2);
        let mut now = None;
        while now.is_none_or(|now: Duration| now > slack) && healed.elapsed() < Duration::from_secs(5) {
            let touched = |path: &LinkPath| [(&path.from, &path.to), (&path.to, &path.from)].contains(&(&pair.from, &pair.to));
            if context.effects.paths().iter().any(touched) {
                return None;
            }
            now = ping(context, pair, 3, Duration::from_millis(1), PROBE).await.ok().as_ref().and_then(median);
        }
        let took = healed.elapsed();
        let now = now?;
        let detail = format!("{} {} ({} before the fault)", pair.name(), ms(now), ms(before.rtt));
        Some(FaultFinding::new(now <= slack, detail).time("rtt_ms", now).time("rtt_before_ms", before.rtt).time("whole_after_ms", took))
    }

    async fn intact(&self, context: &FaultContext) -> Option<FaultFinding> {
        still_there(context, &self.paths()).await
    }

    fn ramp(&self) -> Option<Ramp> {
        self.fault.ramp
    }

    async fn step(&self, context: &FaultContext, value: f64) -> Result<(), ClusterError> {
        {
            let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
            for path in paths.iter_mut() {
                path.shape = self.fault.kind.with(path.shape, value);
            }
        }
        self.inject(context).await
    }
}

/// Sends so many pings that about ten of them should be affected. Returns the answers.
pub(crate) async fn many(measure: &Measure<'_>, share: f64) -> Result<Pings, String> {
    let wanted = (10.0 / share.max(0.001)).clamp(50.0, 2000.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 50 and 2000")]
    let count = wanted as u32;
    let timeout = PROBE + measure.path.shape.delay * 2 + measure.path.shape.reorder_by;
    ping(measure.context, &measure.before.watched.hit, count, Duration::from_millis(1), timeout).await
}

/// Checks that the share of affected pings is close to the requested share.
pub(crate) fn shares(asked: f64, sent: u32, hit: u32, word: &str) -> FaultFinding {
    let found = f64::from(hit) / f64::from(sent.max(1));
    let detail = format!("{hit} of {sent} {word} ({:.1} %, asked {:.1} %)", found * 100.0, asked * 100.0);
    let ok = hit > 0 && found >= asked / 4.0;
    FaultFinding::new(ok, detail).with("asked_percent", asked * 100.0).with("measured_percent", found * 100.0).with("sent", f64::from(sent))
}
