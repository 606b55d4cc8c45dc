//! `network_partition`: links between nodes are cut, in both directions or in one. The clients keep theirs.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use super::{Pair, RELAY, Watched, contact, installed, median, ping, read_back, untouched, watched};
use crate::chaos::catalogue::{Feature, Kind, Repair, Way};
use crate::chaos::fault::{FELT_WITHIN, Finding, Inject, PATIENT, PROBE, Site, ms};
use crate::cluster::ClusterError;
use crate::cluster::harm::LinkPath;
use crate::scenario::model::Partition;

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "network_partition",
    local: RELAY,
    docker: &[Way { how: "rules in the node's network namespace", needs: &[Feature::Nftables] }],
    refused: "",
    repair: Repair::Nobody,
    class: "network_partition",
    holds: None,
};

pub(in crate::chaos) struct NetworkPartition {
    paths: Vec<LinkPath>,
    /// One pair of each target's, so that no isolated node is overlooked.
    watched: OnceLock<(Watched, Vec<Pair>, Option<Duration>)>,
}

impl NetworkPartition {
    pub fn new(_fault: &Partition, paths: Vec<LinkPath>) -> Self {
        Self { paths, watched: OnceLock::new() }
    }

    fn pairs(&self) -> &[Pair] {
        self.watched.get().map_or(&[], |(_, pairs, _)| pairs)
    }
}

#[async_trait]
impl Inject for NetworkPartition {
    fn chosen(&self) -> Option<Value> {
        Some(self.paths.iter().map(|path| format!("{} -> {}", path.from, path.to)).collect())
    }

    async fn before(&self, site: &Site) -> Result<String, String> {
        let mut pairs: Vec<Pair> = Vec::new();
        let mut told = Vec::new();
        for target in &site.targets {
            let own: Vec<LinkPath> = self.paths.iter().filter(|path| path.from == *target || path.to == *target).cloned().collect();
            if own.is_empty() {
                continue;
            }
            // A path of a whole link says nothing of ports: any of the others' is dialled.
            let found = watched(site, &own).await?;
            told.push(format!("{} in {}", found.hit.name(), ms(found.took)));
            if !pairs.contains(&found.hit) {
                pairs.push(found.hit);
            }
        }
        // Nobody could feel a cut of links that nobody dials.
        if pairs.is_empty() {
            return Err("no link is cut".into());
        }
        let all = watched(site, &self.paths).await?;
        let rtt = match &all.bystander {
            Some(pair) => ping(site, pair, 9, Duration::from_millis(2), PATIENT).await.ok().as_ref().and_then(median),
            None => None,
        };
        let _ = self.watched.set((all, pairs, rtt));
        Ok(told.join(", "))
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        site.states.links(&*site.cluster, site.seed, &site.id, &self.paths).await
    }

    async fn installed(&self, site: &Site) -> Finding {
        installed(site, &self.paths, "cut").await
    }

    async fn hit(&self, site: &Site) -> Option<Finding> {
        let found = read_back(site, &self.paths).await.ok()?;
        let dropped: u64 = found.iter().map(|state| state.counted.map(|counted| counted.dropped)).sum::<Option<u64>>()?;
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        let number = dropped as f64;
        Some(Finding::new(dropped > 0, format!("{dropped} packets did not pass")).with("dropped", number))
    }

    /// Dials through the cut pairs until none connects, and through one that is whole.
    async fn felt(&self, site: &Site) -> Finding {
        let deadline = Instant::now() + FELT_WITHIN;
        let mut told = Vec::new();
        for pair in self.pairs() {
            loop {
                match contact(site, pair, PROBE).await {
                    Err(how) => {
                        told.push(format!("{} {how}", pair.name()));
                        break;
                    }
                    Ok(took) if Instant::now() > deadline => {
                        return Finding::no(format!("{} still reaches {} in {}", pair.from, pair.to, ms(took)));
                    }
                    Ok(_) => tokio::task::yield_now().await,
                }
            }
        }
        let found = Finding::yes(told.join(", "));
        match self.watched.get() {
            Some((watched, _, before)) => untouched(site, watched, *before, found).await,
            None => found,
        }
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        site.states.links(&*site.cluster, site.seed, &site.id, &[]).await
    }

    /// Until the fault is over and the pairs reach each other again, or another fault keeps them apart.
    async fn gone(&self, site: &Site) -> Option<Finding> {
        if !site.states.lifted(&site.id).await {
            return None;
        }
        let healed = Instant::now();
        let mut told = Vec::new();
        for pair in self.pairs() {
            let took = loop {
                let cut = |path: &LinkPath| {
                    path.cut.is_some() && [(&path.from, &path.to), (&path.to, &path.from)].contains(&(&pair.from, &pair.to))
                };
                if site.states.paths().iter().any(cut) {
                    return None;
                }
                match contact(site, pair, PROBE).await {
                    Ok(took) => break took,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            told.push(format!("{} reaches {} again in {}", pair.from, pair.to, ms(took)));
        }
        Some(Finding::yes(told.join(", ")).time("whole_after_ms", healed.elapsed()))
    }

    async fn intact(&self, site: &Site) -> Option<Finding> {
        still_there(site, &self.paths).await
    }
}

/// Whether paths of ours are in force as long as nobody of us has taken them away.
pub(in crate::chaos) async fn still_there(site: &Site, paths: &[LinkPath]) -> Option<Finding> {
    let ours = site.states.paths();
    let wanted: Vec<LinkPath> = paths
        .iter()
        .filter(|path| ours.iter().any(|own| own.from == path.from && own.to == path.to && own.port == path.port))
        .cloned()
        .collect();
    if wanted.is_empty() {
        return None;
    }
    // A backend that does not answer is no sign of an agent.
    let found = read_back(site, &wanted).await.ok()?;
    let detail = format!("{} of {} directions are in force", found.len(), wanted.len());
    Some(Finding::new(found.len() == wanted.len() || site.states.paths() != ours, detail))
}
