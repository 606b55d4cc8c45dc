//! What all faults of links have in common but how they are felt.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use super::network_partition::still_there;
use super::{Watched, bandwidth, connection_reset, corrupt, duplicate, installed, latency, median, packet_loss, ping, read_back, reorder};
use super::{untouched, watched};
use crate::chaos::fault::{Finding, Inject, PATIENT, PROBE, Site, ms};
use crate::cluster::ClusterError;
use crate::cluster::harm::{LinkCounters, LinkPath};
use crate::scenario::model::{LinkFault, LinkKind, Ramp};

pub(in crate::chaos) struct Shaped {
    fault: LinkFault,
    /// Changed by the steps of a ramp.
    paths: std::sync::Mutex<Vec<LinkPath>>,
    before: OnceLock<Before>,
}

/// As it was.
#[derive(Debug, Clone)]
pub(super) struct Before {
    pub watched: Watched,
    /// The middle of the round trips of the pair that is hit.
    pub rtt: Duration,
    bystander: Option<Duration>,
    /// Bytes a second, where the fault is about that.
    pub throughput: Option<f64>,
}

/// What a kind of fault measures.
pub(super) struct Measure<'a> {
    pub site: &'a Site,
    pub before: &'a Before,
    /// As it was asked for, now.
    pub path: LinkPath,
    pub symmetric: bool,
}

impl Shaped {
    pub fn new(fault: LinkFault, paths: Vec<LinkPath>) -> Self {
        Self { fault, paths: std::sync::Mutex::new(paths), before: OnceLock::new() }
    }

    fn paths(&self) -> Vec<LinkPath> {
        self.paths.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn measure<'a>(&self, site: &'a Site, before: &'a Before) -> Option<Measure<'a>> {
        let hit = &before.watched.hit;
        let path = self.paths().into_iter().find(|path| path.from == hit.from && path.to == hit.to && path.port == hit.port)?;
        Some(Measure { site, before, path, symmetric: self.fault.symmetric })
    }
}

#[async_trait]
impl Inject for Shaped {
    fn chosen(&self) -> Option<Value> {
        Some(self.paths().iter().map(|path| format!("{} -> {}", path.from, path.to)).collect())
    }

    async fn before(&self, site: &Site) -> Result<String, String> {
        let watched = watched(site, &self.paths()).await?;
        let pings = ping(site, &watched.hit, 9, Duration::from_millis(2), PATIENT).await?;
        let rtt = median(&pings).ok_or_else(|| format!("{} does not answer", watched.hit.name()))?;
        let bystander = match &watched.bystander {
            Some(pair) => ping(site, pair, 9, Duration::from_millis(2), PATIENT).await.ok().as_ref().and_then(median),
            None => None,
        };
        let throughput = match self.fault.kind {
            LinkKind::Bandwidth => Some(bandwidth::measured(site, &watched.hit).await?),
            _ => None,
        };
        let detail = match throughput {
            Some(rate) => format!("{} {:.1} MB/s", watched.hit.name(), rate / 1e6),
            None => format!("{} {}", watched.hit.name(), ms(rtt)),
        };
        let _ = self.before.set(Before { watched, rtt, bystander, throughput });
        Ok(detail)
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        site.states.links(&*site.cluster, site.seed, &site.id, &self.paths()).await
    }

    async fn installed(&self, site: &Site) -> Finding {
        installed(site, &self.paths(), "changed").await
    }

    async fn hit(&self, site: &Site) -> Option<Finding> {
        let found = read_back(site, &self.paths()).await.ok()?;
        let counted: Option<Vec<LinkCounters>> = found.iter().map(|state| state.counted).collect();
        let counted = counted?;
        let sum = |of: fn(&LinkCounters) -> u64| counted.iter().map(of).sum::<u64>();
        let (count, word) = match self.fault.kind {
            LinkKind::Latency => (sum(|counted| counted.delayed), "delayed"),
            LinkKind::Bandwidth => (sum(|counted| counted.delayed + counted.dropped), "held back"),
            LinkKind::PacketLoss => (sum(|counted| counted.dropped), "lost"),
            LinkKind::Duplicate => (sum(|counted| counted.duplicated), "duplicated"),
            LinkKind::Corrupt => (sum(|counted| counted.corrupted), "corrupted"),
            LinkKind::Reorder => (sum(|counted| counted.reordered), "reordered"),
            LinkKind::ConnectionReset => (sum(|counted| counted.reset), "reset"),
        };
        let (packets, bytes) = (sum(|counted| counted.packets), sum(|counted| counted.bytes));
        #[expect(clippy::cast_precision_loss, reason = "counts for people")]
        let numbers = (packets as f64, count as f64);
        let detail = format!("{packets} packets of {bytes} bytes, {count} {word}");
        Some(Finding::new(count > 0, detail).with("packets", numbers.0).with(&word.replace(' ', "_"), numbers.1))
    }

    async fn felt(&self, site: &Site) -> Finding {
        let Some(before) = self.before.get() else { return Finding::no("nothing was measured before") };
        let Some(measure) = self.measure(site, before) else { return Finding::no("no link is changed") };
        let found = match self.fault.kind {
            LinkKind::Latency => latency::felt(&measure).await,
            LinkKind::PacketLoss => packet_loss::felt(&measure).await,
            LinkKind::Duplicate => duplicate::felt(&measure).await,
            LinkKind::Corrupt => corrupt::felt(&measure).await,
            LinkKind::Reorder => reorder::felt(&measure).await,
            LinkKind::Bandwidth => bandwidth::felt(&measure).await,
            LinkKind::ConnectionReset => connection_reset::felt(&measure).await,
        };
        untouched(site, &before.watched, before.bystander, found).await
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        site.states.links(&*site.cluster, site.seed, &site.id, &[]).await
    }

    /// Until the pair answers as before, unless other faults are on it.
    async fn gone(&self, site: &Site) -> Option<Finding> {
        if !site.states.lifted(&site.id).await {
            return None;
        }
        let (before, healed) = (self.before.get()?, Instant::now());
        let pair = &before.watched.hit;
        // What was on its way when the fault ended still arrives late.
        let slack = before.rtt * 3 + Duration::from_millis(2);
        let mut now = None;
        while now.is_none_or(|now: Duration| now > slack) && healed.elapsed() < Duration::from_secs(5) {
            let touched = |path: &LinkPath| [(&path.from, &path.to), (&path.to, &path.from)].contains(&(&pair.from, &pair.to));
            if site.states.paths().iter().any(touched) {
                return None;
            }
            now = ping(site, pair, 3, Duration::from_millis(1), PROBE).await.ok().as_ref().and_then(median);
        }
        let took = healed.elapsed();
        let now = now?;
        let detail = format!("{} {} ({} before the fault)", pair.name(), ms(now), ms(before.rtt));
        Some(Finding::new(now <= slack, detail).time("rtt_ms", now).time("rtt_before_ms", before.rtt).time("whole_after_ms", took))
    }

    async fn intact(&self, site: &Site) -> Option<Finding> {
        still_there(site, &self.paths()).await
    }

    fn ramp(&self) -> Option<Ramp> {
        self.fault.ramp
    }

    async fn step(&self, site: &Site, value: f64) -> Result<(), ClusterError> {
        {
            let mut paths = self.paths.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for path in paths.iter_mut() {
                path.shape = self.fault.kind.with(path.shape, value);
            }
        }
        self.inject(site).await
    }
}

/// Pings often enough that ten of them should be hit.
pub(super) async fn many(measure: &Measure<'_>, share: f64) -> Result<crate::cluster::harm::Pings, String> {
    let wanted = (10.0 / share.max(0.001)).clamp(50.0, 2000.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 50 and 2000")]
    let count = wanted as u32;
    let timeout = PROBE + measure.path.shape.delay * 2 + measure.path.shape.reorder_by;
    ping(measure.site, &measure.before.watched.hit, count, Duration::from_millis(1), timeout).await
}

/// Of pings: how many were hit, and whether that can be the share that was asked for.
pub(super) fn shares(asked: f64, sent: u32, hit: u32, word: &str) -> Finding {
    let found = f64::from(hit) / f64::from(sent.max(1));
    let detail = format!("{hit} of {sent} {word} ({:.1} %, asked {:.1} %)", found * 100.0, asked * 100.0);
    let ok = hit > 0 && found >= asked / 4.0;
    Finding::new(ok, detail).with("asked_percent", asked * 100.0).with("measured_percent", found * 100.0).with("sent", f64::from(sent))
}
