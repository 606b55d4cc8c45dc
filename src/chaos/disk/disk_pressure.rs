//! `disk_pressure`: the disk of the node's data is filled. What an agent may free is a file it finds; what it may not is a file without a
//! name.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::chaos::driver::each;
use crate::chaos::fault::{FELT_WITHIN, Finding, Inject, Site};
use crate::cluster::ClusterError;
use crate::cluster::harm::{Ballast, DiskUse};
use crate::scenario::model::{DiskAmount, Heal, Ramp};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "disk_pressure",
    local: &[Way::plain("a file in the data directory, up to the node's declared disk")],
    docker: &[Way::plain("a file on the node's own volume")],
    refused: "",
    repair: Repair::RemoveFile,
    class: "disk_full",
    holds: Some("disk space"),
};

/// How often it is looked whether the space is free again.
const LOOKED: Duration = Duration::from_millis(100);

pub(in crate::chaos) struct DiskPressure {
    ramp: Option<Ramp>,
    file: String,
    /// What is asked for now.
    amount: Mutex<DiskAmount>,
    /// By node: how it was, and what was taken.
    before: Mutex<BTreeMap<String, (DiskUse, u64)>>,
    healed: AtomicBool,
}

impl DiskPressure {
    pub fn new(amount: DiskAmount, ramp: Option<Ramp>, file: String) -> Self {
        Self { ramp, file, amount: Mutex::new(amount), before: Mutex::default(), healed: AtomicBool::new(false) }
    }

    fn amount(&self) -> DiskAmount {
        *self.amount.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn known(&self, node: &str) -> Option<(DiskUse, u64)> {
        self.before.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(node).copied()
    }

    fn ballast(&self, site: &Site, bytes: u64) -> Ballast {
        Ballast { name: self.file.clone(), bytes, hidden: site.heal != Heal::Agent }
    }

    async fn fill(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| {
            let held = site.cluster.ballast(&node, &self.file).await.unwrap_or_default();
            let now = site.cluster.disk(&node).await?;
            let bytes = wanted(self.amount(), now, held);
            let got = site.cluster.fill(&node, &self.ballast(site, bytes)).await?;
            let mut before = self.before.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            before.entry(node).or_insert((now, 0)).1 = got;
            Ok(())
        })
        .await
    }
}

/// Bytes to take of a disk of which `held` are taken already.
fn wanted(amount: DiskAmount, now: DiskUse, held: u64) -> u64 {
    let others = now.used.saturating_sub(held);
    match amount {
        DiskAmount::Size(bytes) => bytes,
        DiskAmount::LeaveFree(bytes) => (now.free + held).saturating_sub(bytes),
        DiskAmount::Percent(percent) => {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "disks are smaller")]
            let used = (now.size as f64 * percent / 100.0) as u64;
            used.saturating_sub(others)
        }
    }
}

fn percent(of: DiskUse) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let percent = of.used as f64 * 100.0 / of.size.max(1) as f64;
    percent
}

#[async_trait]
impl Inject for DiskPressure {
    async fn before(&self, site: &Site) -> Result<String, String> {
        let mut told = Vec::new();
        for node in &site.targets {
            let now = site.cluster.disk(node).await.map_err(|error| error.to_string())?;
            told.push(format!("{node} used {:.1} % of {} MiB", percent(now), now.size >> 20));
            self.before.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(node.clone(), (now, 0));
        }
        Ok(told.join(", "))
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        self.fill(site).await
    }

    async fn installed(&self, site: &Site) -> Finding {
        for node in &site.targets {
            let taken = self.known(node).map(|(_, taken)| taken).unwrap_or_default();
            match site.cluster.ballast(node, &self.file).await {
                Ok(held) if held > 0 && held >= taken => (),
                Ok(held) => return Finding::no(format!("{node}: {held} of {taken} bytes are taken")),
                Err(error) => return Finding::no(error.to_string()),
            }
        }
        let taken: u64 = site.targets.iter().filter_map(|node| self.known(node)).map(|(_, taken)| taken).sum();
        #[expect(clippy::cast_precision_loss, reason = "a size for people")]
        let mib = taken as f64 / 1_048_576.0;
        Finding::yes(format!("{mib:.1} MiB taken of {}", site.targets.join(", "))).with("taken_mib", mib)
    }

    /// The disk says so.
    async fn felt(&self, site: &Site) -> Finding {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let mut found = Finding::yes("");
            for node in &site.targets {
                let (now, (before, taken)) = match (site.cluster.disk(node).await, self.known(node)) {
                    (Ok(now), Some(known)) => (now, known),
                    (Err(error), _) => return Finding::no(error.to_string()),
                    (_, None) => return Finding::no(format!("{node} was not filled")),
                };
                // Nodes write too: what is used may only be more.
                let hundredth = now.size / 100;
                let ok = match self.amount() {
                    DiskAmount::Percent(_) => wanted(self.amount(), now, 0) <= hundredth || now.free <= hundredth,
                    DiskAmount::Size(_) => now.used + hundredth >= before.used + taken,
                    DiskAmount::LeaveFree(bytes) => now.free <= bytes + hundredth,
                };
                let words = format!("{node} uses {:.1} %, {} KiB free", percent(now), now.free >> 10);
                found.ok &= ok;
                found.detail = if found.detail.is_empty() { words } else { format!("{}, {words}", found.detail) };
                #[expect(clippy::cast_precision_loss, reason = "a size for people")]
                let free = now.free as f64 / 1_048_576.0;
                found = found.with("used_percent", percent(now)).with("free_mib", free).with("used_before_percent", percent(before));
            }
            if found.ok || Instant::now() > deadline {
                return found;
            }
            tokio::time::sleep(LOOKED / 10).await;
        }
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        self.healed.store(true, Ordering::Release);
        each(&site.targets, async |node| site.cluster.fill(&node, &self.ballast(site, 0)).await.map(|_| ())).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        loop {
            tokio::time::sleep(LOOKED).await;
            let mut left = 0;
            for node in &site.targets {
                left += site.cluster.ballast(node, &self.file).await.ok()?;
            }
            if left == 0 {
                let now = site.cluster.disk(site.first()).await.ok()?;
                return Some(Finding::yes(format!("{} uses {:.1} %", site.first(), percent(now))).with("used_percent", percent(now)));
            }
        }
    }

    /// What an agent may not free it does not find: whoever freed it has reached behind the node.
    async fn intact(&self, site: &Site) -> Option<Finding> {
        let mut found = Finding::yes("");
        for node in &site.targets {
            let held = site.cluster.ballast(node, &self.file).await.ok()?;
            if held == 0 && self.known(node).is_some_and(|(_, taken)| taken > 0) {
                found = Finding::no(format!("what was taken of the disk of {node} is free"));
            }
        }
        (!self.healed.load(Ordering::Acquire)).then_some(found)
    }

    fn ramp(&self) -> Option<Ramp> {
        self.ramp
    }

    async fn step(&self, site: &Site, value: f64) -> Result<(), ClusterError> {
        {
            let mut amount = self.amount.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *amount = match *amount {
                DiskAmount::Percent(_) => DiskAmount::Percent(value),
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of bytes")]
                DiskAmount::Size(_) | DiskAmount::LeaveFree(_) => DiskAmount::Size(value as u64),
            };
        }
        self.fill(site).await
    }

    fn cure(&self, site: &Site, node: &str) -> Option<String> {
        let data = &site.cluster.topology().node(node)?.data;
        Some(format!("docker exec {node} rm -f '{}'", data.join(&self.file).display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_follows_from_what_others_have() {
        let disk = |used, free| DiskUse { size: 1000, used, free };
        assert_eq!(wanted(DiskAmount::Percent(90.0), disk(100, 900), 0), 800);
        assert_eq!(wanted(DiskAmount::Percent(90.0), disk(600, 400), 500), 800, "what we hold already does not count");
        assert_eq!(wanted(DiskAmount::Percent(90.0), disk(950, 50), 0), 0);
        assert_eq!(wanted(DiskAmount::LeaveFree(10), disk(100, 900), 0), 890);
        assert_eq!(wanted(DiskAmount::LeaveFree(10), disk(600, 400), 500), 890);
        assert_eq!(wanted(DiskAmount::Size(7), disk(600, 400), 500), 7);
    }
}
