//! What happens on links between nodes. It shows by small exchanges of ours in the nodes' places, on a pair that is hit and on one
//! that is not: a bystander that suffers is told.

pub mod bandwidth;
pub mod connection_reset;
pub mod corrupt;
pub mod duplicate;
pub mod latency;
pub mod network_partition;
pub mod packet_loss;
pub mod paths;
pub mod reorder;
pub mod shaped;

use std::time::Duration;

use futures_util::future::join_all;

use super::catalogue::{Feature, Way};
use super::fault::{Finding, PATIENT, PROBE, Site, ms};
use crate::cluster::harm::{LinkPath, LinkState, Pinging, Pings};
use crate::event::NodeState;

/// Packets are decided on by a program of ours in the node's network namespace, or by the kernel's own queue.
const PACKETS: &[Way] = &[Way { how: "a queue of ours on the receiving side", needs: &[Feature::Nftables, Feature::Nfqueue] }];
const RELAY: &[Way] = &[Way::plain("the relay between the nodes")];
/// Why the relay cannot.
const STREAM: &str = "its relay sees bytes, not packets";

/// Two nodes, and the port that is dialled where only that is hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub from: String,
    pub to: String,
    pub port: Option<String>,
}

impl Pair {
    fn of(path: &LinkPath) -> Self {
        Self { from: path.from.clone(), to: path.to.clone(), port: path.port.clone() }
    }

    pub fn name(&self) -> String {
        let port = self.port.as_ref().map_or(String::new(), |port| format!(" ({port})"));
        format!("{} to {}{port}", self.from, self.to)
    }
}

/// A pair that is hit, and one that is not.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub hit: Pair,
    /// How long the pair that is hit took to reach each other.
    pub took: Duration,
    pub bystander: Option<Pair>,
}

/// Chooses pairs that reach each other before the fault.
pub(super) async fn watched(site: &Site, paths: &[LinkPath]) -> Result<Watched, String> {
    let candidates: Vec<Pair> = paths.iter().map(Pair::of).collect();
    let hit = first_that_reaches(site, candidates).await;
    let (hit, took) = hit.ok_or_else(|| format!("{} and the others do not reach each other before", site.targets.join(", ")))?;
    let status = site.cluster.status();
    let running = |name: &str| status.iter().any(|status| status.node == name && status.state == NodeState::Running);
    let names: Vec<_> = site.cluster.topology().nodes.iter().map(|node| &node.name).filter(|name| running(name)).collect();
    let others = site.states.paths();
    let touched = |from: &str, to: &str| {
        let same = |path: &LinkPath| (path.from == from && path.to == to) || (path.from == to && path.to == from);
        paths.iter().chain(&others).any(same)
    };
    let every = names.iter().flat_map(|from| names.iter().map(|to| ((*from).clone(), (*to).clone())));
    let whole = every.filter(|(from, to)| from != to && !touched(from, to)).map(|(from, to)| Pair { from, to, port: None });
    let bystander = first_that_reaches(site, whole.collect()).await.map(|(pair, _)| pair);
    Ok(Watched { hit, took, bystander })
}

/// Of the first few, all dialled at once; patiently only when none of them is quick, since some may be silent.
async fn first_that_reaches(site: &Site, pairs: Vec<Pair>) -> Option<(Pair, Duration)> {
    for timeout in [PROBE, PATIENT] {
        let dials = pairs.iter().take(8).map(async |pair| contact(site, pair, timeout).await.ok().map(|took| (pair.clone(), took)));
        let found = join_all(dials).await.into_iter().flatten().next();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Dials once.
pub(super) async fn contact(site: &Site, pair: &Pair, timeout: Duration) -> Result<Duration, String> {
    let Some(port) = &pair.port else { return site.cluster.reaches(&pair.from, &pair.to, timeout).await };
    let once = Pinging { count: 1, every: Duration::ZERO, timeout };
    let pings = site.cluster.ping(&pair.from, &pair.to, Some(port), once).await?;
    pings.answered.first().copied().ok_or_else(|| format!("was not connected in {} ms", timeout.as_millis()))
}

pub(super) async fn ping(site: &Site, pair: &Pair, count: u32, every: Duration, timeout: Duration) -> Result<Pings, String> {
    site.cluster.ping(&pair.from, &pair.to, pair.port.as_deref(), Pinging { count, every, timeout }).await
}

/// The middle of the round trips.
pub(super) fn median(pings: &Pings) -> Option<Duration> {
    let mut times = pings.answered.clone();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// What is in force of `paths`, as it is read back. Whatever other faults add to it is as good.
pub(super) async fn read_back(site: &Site, paths: &[LinkPath]) -> Result<Vec<LinkState>, String> {
    let found = site.cluster.links().await.map_err(|error| error.to_string())?;
    let covers = |state: &LinkState, path: &LinkPath| {
        let same = state.path.from == path.from && state.path.to == path.to && state.path.port == path.port;
        same && state.path.cut >= path.cut && (path.shape.is_plain() || !state.path.shape.is_plain())
    };
    Ok(paths.iter().filter_map(|path| found.iter().find(|state| covers(state, path)).cloned()).collect())
}

pub(super) async fn installed(site: &Site, paths: &[LinkPath], what: &str) -> Finding {
    match read_back(site, paths).await {
        Err(error) => Finding::no(error),
        Ok(found) => {
            let mut directions: Vec<String> = paths.iter().map(|path| format!("{} -> {}", path.from, path.to)).collect();
            directions.dedup();
            let shown = directions.len().min(8);
            let more = if directions.len() > shown { format!(" and {} more", directions.len() - shown) } else { String::new() };
            let detail = format!("{} of {} directions are {what}: {}{more}", found.len(), paths.len(), directions[..shown].join(", "));
            #[expect(clippy::cast_precision_loss, reason = "a few links")]
            let (there, asked) = (found.len() as f64, paths.len() as f64);
            Finding::new(found.len() == paths.len(), detail).with("directions", there).with("directions_asked", asked)
        }
    }
}

/// A link that nothing is done to is as before: in words, with a warning when it is not.
pub(super) async fn untouched(site: &Site, watched: &Watched, before: Option<Duration>, found: Finding) -> Finding {
    let Some(pair) = &watched.bystander else { return found };
    let now = ping(site, pair, 9, Duration::from_millis(2), PROBE).await.ok().as_ref().and_then(median);
    let detail = match (before, now) {
        (_, None) => {
            site.emitter.warn(format!("fault `{}`: the unaffected pair {} is not whole either", site.id, pair.name()));
            format!("{}; unaffected {} does not answer", found.detail, pair.name())
        }
        (Some(before), Some(now)) => {
            // A busy machine answers late by itself: only what is far off is told.
            if now > before * 4 + Duration::from_millis(5) {
                let message = format!("the unaffected pair {} answers in {}, {} before", pair.name(), ms(now), ms(before));
                site.emitter.warn(format!("fault `{}`: {message}", site.id));
            }
            format!("{}; unaffected {} {} ({} before)", found.detail, pair.name(), ms(now), ms(before))
        }
        (None, Some(now)) => format!("{}; unaffected {} {}", found.detail, pair.name(), ms(now)),
    };
    let found = Finding { detail, ..found };
    let found = if let Some(before) = before { found.time("bystander_before_ms", before) } else { found };
    if let Some(now) = now { found.time("bystander_ms", now) } else { found }
}
