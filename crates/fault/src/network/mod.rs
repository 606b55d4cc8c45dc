//! Faults of links between nodes. Probes measure the effects by small exchanges in the network namespaces of the nodes, on an affected pair
//! and on an unaffected pair. An effect on the unaffected pair is a warning.

pub mod links;
pub mod paths;

use std::time::Duration;

use futures_util::future::join_all;

use super::{FaultContext, FaultFinding, Feature, PATIENT, PROBE, Way, ms};
use chaosrun_cluster::fault_control::{LinkPath, LinkState, Pinging, Pings};
use chaosrun_event::NodeState;

/// Mechanisms that affect packets: a queue program in the network namespace of the node, or the queue of the kernel.
pub(super) const PACKETS: &[Way] =
    &[Way { how: "packet queue (NFQUEUE) of chaosrun at the receiver", needs: &[Feature::Nftables, Feature::Nfqueue] }];
pub(super) const RELAY: &[Way] = &[Way::plain("relay between the nodes")];
/// Reason why the relay does not support faults of packets.
pub(super) const STREAM: &str = "the relay forwards bytes, not packets";

/// Pair of a sender and a receiver, with the port to dial if the fault affects only that port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePair {
    pub from: String,
    pub to: String,
    pub port: Option<String>,
}

impl NodePair {
    fn of(path: &LinkPath) -> Self {
        Self { from: path.from.clone(), to: path.to.clone(), port: path.port.clone() }
    }

    pub fn name(&self) -> String {
        let port = self.port.as_ref().map_or(String::new(), |port| format!(" ({port})"));
        format!("{} to {}{port}", self.from, self.to)
    }
}

/// Affected pair and unaffected pair that are measured for a fault.
#[derive(Debug, Clone)]
pub struct Watched {
    pub hit: NodePair,
    /// Time in which a connection of the affected pair was established before the fault.
    pub took: Duration,
    pub bystander: Option<NodePair>,
}

/// Chooses an affected and an unaffected pair whose nodes reach each other before the fault.
pub(super) async fn watched(context: &FaultContext, paths: &[LinkPath]) -> Result<Watched, String> {
    let candidates: Vec<NodePair> = paths.iter().map(NodePair::of).collect();
    let hit = first_that_reaches(context, candidates).await;
    let (hit, took) = hit.ok_or_else(|| format!("{} and the others do not reach each other before", context.targets.join(", ")))?;
    let status = context.cluster.status();
    let running = |name: &str| status.iter().any(|status| status.node == name && status.state == NodeState::Running);
    let names: Vec<_> = context.cluster.topology().nodes.iter().map(|node| &node.name).filter(|name| running(name)).collect();
    let others = context.effects.paths();
    let touched = |from: &str, to: &str| {
        let same = |path: &LinkPath| (path.from == from && path.to == to) || (path.from == to && path.to == from);
        paths.iter().chain(&others).any(same)
    };
    let every = names.iter().flat_map(|from| names.iter().map(|to| ((*from).clone(), (*to).clone())));
    let whole = every.filter(|(from, to)| from != to && !touched(from, to)).map(|(from, to)| NodePair { from, to, port: None });
    let bystander = first_that_reaches(context, whole.collect()).await.map(|(pair, _)| pair);
    Ok(Watched { hit, took, bystander })
}

/// Returns the first pair whose connection succeeds, and the connection time. Dials the first few pairs concurrently, because some may not
/// answer. Uses a longer timeout only if no pair connects within the short one.
async fn first_that_reaches(context: &FaultContext, pairs: Vec<NodePair>) -> Option<(NodePair, Duration)> {
    for timeout in [PROBE, PATIENT] {
        let dials = pairs.iter().take(8).map(async |pair| contact(context, pair, timeout).await.ok().map(|took| (pair.clone(), took)));
        let found = join_all(dials).await.into_iter().flatten().next();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Dials from the sender to the receiver of the pair once. Returns the time until the connection is established.
pub(super) async fn contact(context: &FaultContext, pair: &NodePair, timeout: Duration) -> Result<Duration, String> {
    let Some(port) = &pair.port else { return context.cluster.reaches(&pair.from, &pair.to, timeout).await };
    let once = Pinging { count: 1, every: Duration::ZERO, timeout };
    let pings = context.cluster.ping(&pair.from, &pair.to, Some(port), once).await?;
    pings.answered.first().copied().ok_or_else(|| format!("was not connected in {} ms", timeout.as_millis()))
}

pub(super) async fn ping(context: &FaultContext, pair: &NodePair, count: u32, every: Duration, timeout: Duration) -> Result<Pings, String> {
    context.cluster.ping(&pair.from, &pair.to, pair.port.as_deref(), Pinging { count, every, timeout }).await
}

/// Returns the median of the round-trip times; `None` if no ping was answered.
pub(super) fn median(pings: &Pings) -> Option<Duration> {
    let mut times = pings.answered.clone();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// Reads back the active states of `paths`. A state with additional effects of other faults also counts.
pub(super) async fn read_back(context: &FaultContext, paths: &[LinkPath]) -> Result<Vec<LinkState>, String> {
    let found = context.cluster.links().await.map_err(|error| error.to_string())?;
    let covers = |state: &LinkState, path: &LinkPath| {
        let same = state.path.from == path.from && state.path.to == path.to && state.path.port == path.port;
        same && state.path.cut >= path.cut && (path.shape.is_plain() || !state.path.shape.is_plain())
    };
    Ok(paths.iter().filter_map(|path| found.iter().find(|state| covers(state, path)).cloned()).collect())
}

pub(super) async fn installed(context: &FaultContext, paths: &[LinkPath], what: &str) -> FaultFinding {
    match read_back(context, paths).await {
        Err(error) => FaultFinding::no(error),
        Ok(found) => {
            let mut directions: Vec<String> = paths.iter().map(|path| format!("{} -> {}", path.from, path.to)).collect();
            directions.dedup();
            let shown = directions.len().min(8);
            let more = if directions.len() > shown { format!(" and {} more", directions.len() - shown) } else { String::new() };
            let detail = format!("{} of {} directions are {what}: {}{more}", found.len(), paths.len(), directions[..shown].join(", "));
            #[expect(clippy::cast_precision_loss, reason = "a few links")]
            let (there, asked) = (found.len() as f64, paths.len() as f64);
            FaultFinding::new(found.len() == paths.len(), detail).with("directions", there).with("directions_asked", asked)
        }
    }
}

/// Checks that the unaffected link has the same round-trip time as before the fault. Returns the finding with this result, and with a
/// warning if the link is slower.
pub(super) async fn untouched(context: &FaultContext, watched: &Watched, before: Option<Duration>, found: FaultFinding) -> FaultFinding {
    let Some(pair) = &watched.bystander else { return found };
    let now = ping(context, pair, 9, Duration::from_millis(2), PROBE).await.ok().as_ref().and_then(median);
    let detail = match (before, now) {
        (_, None) => {
            context.emitter.warn(format!("fault `{}`: the unaffected pair {} has no connection either", context.id, pair.name()));
            format!("{}; unaffected {} does not answer", found.detail, pair.name())
        }
        (Some(before), Some(now)) => {
            // A busy machine answers slowly even without a fault, so only large differences are reported.
            if now > before * 4 + Duration::from_millis(5) {
                let message = format!("the unaffected pair {} answers in {}, {} before", pair.name(), ms(now), ms(before));
                context.emitter.warn(format!("fault `{}`: {message}", context.id));
            }
            format!("{}; unaffected {} {} ({} before)", found.detail, pair.name(), ms(now), ms(before))
        }
        (None, Some(now)) => format!("{}; unaffected {} {}", found.detail, pair.name(), ms(now)),
    };
    let found = FaultFinding { detail, ..found };
    let found = if let Some(before) = before { found.time("bystander_before_ms", before) } else { found };
    if let Some(now) = now { found.time("bystander_ms", now) } else { found }
}

/// Checks that the paths of a fault are active, as long as the fault has not been healed.
pub(super) async fn still_there(context: &FaultContext, paths: &[LinkPath]) -> Option<FaultFinding> {
    let ours = context.effects.paths();
    let wanted: Vec<LinkPath> = paths
        .iter()
        .filter(|path| ours.iter().any(|own| own.from == path.from && own.to == path.to && own.port == path.port))
        .cloned()
        .collect();
    if wanted.is_empty() {
        return None;
    }
    // If the backend does not answer, there is no evidence that an agent changed the paths.
    let found = read_back(context, &wanted).await.ok()?;
    let detail = format!("{} of {} directions are in force", found.len(), wanted.len());
    Some(FaultFinding::new(found.len() == wanted.len() || context.effects.paths() != ours, detail))
}
