//! `cpu_stress`: something else keeps the node's processors busy, within the node's own limits.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{gone, installed, intact, put};
use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::chaos::fault::{FELT_WITHIN, Finding, Inject, PATIENT, Site, ms};
use crate::cluster::ClusterError;
use crate::cluster::harm::{Stress, Worked};
use crate::scenario::model::Ramp;

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "cpu_stress",
    local: &[Way::plain("the node is stopped and continued in turns")],
    docker: &[Way::plain("a burner in the node's container")],
    refused: "",
    repair: Repair::Verb("restart"),
    class: "cpu_exhaustion",
    holds: Some("processors"),
};

/// Added to the answers of a node that mostly stands still for a tenth of a second, and to those of no other.
const TURN: Duration = Duration::from_millis(25);
/// Looks that are compared with each other.
const LOOKS: usize = 9;

pub(in crate::chaos) struct CpuStress {
    cores: f64,
    percent: Mutex<f64>,
    ramp: Option<Ramp>,
    before: OnceLock<Look>,
}

/// How a node that shares its processors looks from outside.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// How many times longer than its processor time a piece of work in the node takes.
    Stretch(f64),
    /// Of some answers the one that three quarters are quicker than, and the slowest: on a busy machine one alone tells little.
    /// `beside`: the same of a node that nothing was done to, asked in turns with this one.
    Answers { quarter: Duration, slowest: Duration, beside: Option<Duration> },
}

impl CpuStress {
    pub fn new(cores: f64, percent: f64, ramp: Option<Ramp>) -> Self {
        Self { cores, percent: Mutex::new(percent), ramp, before: OnceLock::new() }
    }

    fn stress(&self) -> Stress {
        let percent = *self.percent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Stress { cores: self.cores, percent, memory: 0 }
    }
}

fn answers(site: &Site, quarter: Duration, slowest: Duration) -> String {
    format!("one of four answers of {} takes {} or more, the slowest {}", site.first(), ms(quarter), ms(slowest))
}

async fn look(site: &Site) -> Look {
    let mut stretches = Vec::new();
    for _ in 0..LOOKS {
        match site.cluster.work(site.first()).await {
            Ok(Worked { cpu, wall }) if !cpu.is_zero() => stretches.push(wall.as_secs_f64() / cpu.as_secs_f64()),
            _ => break,
        }
    }
    stretches.sort_by(f64::total_cmp);
    if let Some(middle) = stretches.get(stretches.len() / 2) {
        return Look::Stretch(*middle);
    }
    let mut others = site.cluster.topology().nodes.iter().map(|node| node.name.clone());
    let other = others.find(|node| !site.targets.contains(node));
    let (mut took, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS * 3 {
        let began = Instant::now();
        let _ = site.cluster.answers(site.first(), PATIENT).await;
        took.push(began.elapsed());
        if let Some(other) = &other {
            let began = Instant::now();
            let _ = site.cluster.answers(other, PATIENT).await;
            beside.push(began.elapsed());
        }
    }
    took.sort_unstable();
    beside.sort_unstable();
    let quarter = |times: &[Duration]| times.get(times.len() * 3 / 4).copied();
    Look::Answers {
        quarter: quarter(&took).unwrap_or_default(),
        slowest: took.last().copied().unwrap_or_default(),
        beside: quarter(&beside),
    }
}

#[async_trait]
impl Inject for CpuStress {
    async fn before(&self, site: &Site) -> Result<String, String> {
        let look = look(site).await;
        let _ = self.before.set(look);
        Ok(match look {
            Look::Stretch(stretch) => format!("work in {} took {stretch:.2} times its processor time", site.first()),
            Look::Answers { quarter, slowest, .. } => answers(site, quarter, slowest),
        })
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        put(site, Some(self.stress())).await
    }

    async fn installed(&self, site: &Site) -> Finding {
        installed(site, |_| true).await
    }

    async fn hit(&self, site: &Site) -> Option<Finding> {
        let used = site.cluster.stress(site.first()).await.ok()?.used;
        Some(Finding::new(!used.is_zero(), format!("{} used so far", ms(used))).time("used_ms", used))
    }

    async fn felt(&self, site: &Site) -> Finding {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let found = match (self.before.get(), look(site).await) {
                (Some(Look::Stretch(before)), Look::Stretch(now)) => {
                    let detail = format!("work in {} takes {now:.2} times its processor time", site.first());
                    Finding::new(now >= before * 1.1, detail).with("stretch_before", *before).with("stretch", now)
                }
                (Some(Look::Answers { quarter: before, slowest: slowest_before, .. }), Look::Answers { quarter, slowest, beside }) => {
                    let longer = |now: Duration, before: Duration| now >= before * 2 && now >= Duration::from_millis(10);
                    // What a busy machine adds was there before, and twice that may be more than a turn of standing still. But it is
                    // added to the others' answers too.
                    let apart = beside.is_some_and(|beside| quarter >= beside + TURN);
                    let ok = longer(quarter, *before) || longer(slowest, *slowest_before) || apart;
                    let found = Finding::new(ok, answers(site, quarter, slowest)).time("quarter_before_ms", *before);
                    let found = found.time("quarter_ms", quarter).time("slowest_before_ms", *slowest_before).time("slowest_ms", slowest);
                    beside.map_or(found.clone(), |beside| found.time("quarter_beside_ms", beside))
                }
                _ => Finding::no(format!("{} cannot be looked at as before", site.first())),
            };
            if found.ok || Instant::now() > deadline {
                return found;
            }
        }
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        put(site, None).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        gone(site).await
    }

    async fn intact(&self, site: &Site) -> Option<Finding> {
        intact(site).await
    }

    fn ramp(&self) -> Option<Ramp> {
        self.ramp
    }

    async fn step(&self, site: &Site, value: f64) -> Result<(), ClusterError> {
        *self.percent.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = value;
        self.inject(site).await
    }
}
