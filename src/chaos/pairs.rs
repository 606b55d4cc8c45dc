//! Evidence of cut links: what the backend reads back, and dials between nodes, before, while and after.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::driver::{FELT_WITHIN, Felt, PROBE, Witness, ms};
use super::network_partition::NetworkPartition;
use crate::cluster::{Cluster, Cut, Severed};
use crate::event::{EvidenceStep, NodeState};

/// A pair of nodes: who dials whom.
pub(super) type Pair = (String, String);

/// Pairs that reach each other before the fault: one of each target's that will be cut, and one that will not.
#[derive(Debug, Clone, Default)]
pub(super) struct Pairs {
    pub affected: Vec<Pair>,
    pub bystander: Option<Pair>,
    /// What the dials said, in words.
    pub before: String,
}

impl Pairs {
    /// # Errors
    /// When a target reaches none of those it is to be cut from: nothing would show the cut.
    pub async fn choose(cluster: &dyn Cluster, cuts: &[Cut], all: &[Cut], targets: &[String]) -> Result<Self, String> {
        let mut pairs = Self::default();
        let mut told = Vec::new();
        for target in targets {
            let candidates = cuts.iter().filter(|cut| cut.from == *target || cut.to == *target);
            let candidates = candidates.map(|cut| (cut.from.clone(), cut.to.clone()));
            let found = first_that_reaches(cluster, candidates.collect()).await;
            let (pair, took) = found.ok_or_else(|| format!("{target} and those it is to be cut from do not reach each other before"))?;
            told.push(format!("{} reached {} in {}", pair.0, pair.1, ms(took)));
            if !pairs.affected.contains(&pair) {
                pairs.affected.push(pair);
            }
        }
        let status = cluster.status();
        let running = |name: &str| status.iter().any(|status| status.node == name && status.state == NodeState::Running);
        let names: Vec<_> = cluster.topology().nodes.iter().map(|node| &node.name).filter(|name| running(name)).collect();
        let every = names.iter().flat_map(|from| names.iter().map(|to| ((*from).clone(), (*to).clone())));
        let cut = |from: &str, to: &str| cuts.iter().chain(all).any(|cut| cut.from == from && cut.to == to);
        let whole = every.filter(|(from, to)| from != to && !cut(from, to) && !cut(to, from));
        if let Some((pair, took)) = first_that_reaches(cluster, whole.collect()).await {
            told.push(format!("{} reached {} in {}", pair.0, pair.1, ms(took)));
            pairs.bystander = Some(pair);
        }
        pairs.before = told.join(", ");
        Ok(pairs)
    }
}

/// Of the first few, all dialled at once.
async fn first_that_reaches(cluster: &dyn Cluster, pairs: Vec<Pair>) -> Option<(Pair, Duration)> {
    let dials = pairs.into_iter().take(8).map(async |pair: Pair| {
        let took = cluster.reaches(&pair.0, &pair.1, PROBE).await.ok()?;
        Some((pair, took))
    });
    join_all(dials).await.into_iter().flatten().next()
}

impl Witness {
    fn cut<'a>(partition: &'a NetworkPartition, found: &'a [Severed]) -> impl Iterator<Item = Option<&'a Severed>> {
        let same = |cut: &Cut, severed: &Severed| severed.cut.from == cut.from && severed.cut.to == cut.to && severed.cut.mode >= cut.mode;
        partition.cuts.iter().map(move |cut| found.iter().find(|severed| same(cut, severed)))
    }

    /// Reads the cuts back.
    pub(super) async fn links_installed(&self, partition: &NetworkPartition) -> Result<(), String> {
        let found = match self.cluster.severed().await {
            Ok(found) => found,
            Err(error) => return Err(error.to_string()),
        };
        let there = Self::cut(partition, &found).flatten().count();
        let ok = there == partition.cuts.len();
        let directions: Vec<_> = partition.cuts.iter().map(|cut| format!("{} -> {}", cut.from, cut.to)).collect();
        let detail = format!("{there} of {} directions are cut: {}", partition.cuts.len(), directions.join(", "));
        self.evidence(EvidenceStep::Installed, ok, detail.clone());
        if ok { Ok(()) } else { Err(detail) }
    }

    /// Dials through the cut pairs until none connects, and through one that is whole.
    pub(super) async fn links_felt(&self, partition: &NetworkPartition, before: &str) -> Felt {
        let deadline = Instant::now() + FELT_WITHIN;
        let mut told = Vec::new();
        for (from, to) in &self.pairs.affected {
            loop {
                match self.cluster.reaches(from, to, PROBE).await {
                    Err(how) => {
                        told.push(format!("{from} to {to} {how}"));
                        break;
                    }
                    Ok(took) if Instant::now() > deadline => {
                        let detail = format!("{before} before; {from} still reaches {to} in {}", ms(took));
                        self.evidence(EvidenceStep::Felt, false, detail.clone());
                        return Felt { id: self.id.clone(), after: None, detail };
                    }
                    Ok(_) => tokio::task::yield_now().await,
                }
            }
        }
        let after = self.began.elapsed();
        if let Some((from, to)) = &self.pairs.bystander {
            told.push(match self.cluster.reaches(from, to, PROBE).await {
                Ok(took) => format!("unaffected {from} reached {to} in {}", ms(took)),
                Err(how) => {
                    self.emitter.warn(format!("fault `{}`: the unaffected pair {from} to {to} is not whole either: {how}", self.id));
                    format!("unaffected {from} to {to} {how}")
                }
            });
        }
        self.hit(partition).await;
        let detail = format!("{before} before; now {}", told.join(", "));
        self.evidence(EvidenceStep::Felt, true, detail.clone());
        Felt { id: self.id.clone(), after: Some(after), detail }
    }

    /// What the cuts have kept from passing, where the backend can tell.
    async fn hit(&self, partition: &NetworkPartition) {
        let Ok(found) = self.cluster.severed().await else { return };
        let packets: Option<u64> = Self::cut(partition, &found).flatten().map(|severed| severed.packets).sum();
        if let Some(packets) = packets {
            self.evidence(EvidenceStep::Hit, packets > 0, format!("{packets} packets did not pass"));
        }
    }

    /// Until the fault is over and the pairs reach each other again, or another fault keeps them apart.
    pub(super) async fn links_gone(&self, partition: &NetworkPartition) {
        if !partition.links.lifted(&self.id).await {
            return;
        }
        let mut told = Vec::new();
        for (from, to) in &self.pairs.affected {
            let took = loop {
                let cut = |cut: &Cut| (cut.from == *from && cut.to == *to) || (cut.from == *to && cut.to == *from);
                if partition.links.all().iter().any(cut) {
                    return;
                }
                match self.cluster.reaches(from, to, PROBE).await {
                    Ok(took) => break took,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            told.push(format!("{from} reaches {to} again in {}", ms(took)));
        }
        self.evidence(EvidenceStep::Gone, true, told.join(", "));
    }
}
