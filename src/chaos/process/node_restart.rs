//! `node_restart`: the node is restarted, as often as is said, with pauses that may grow.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::answers;
use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::chaos::driver::each;
use crate::chaos::fault::{FELT_WITHIN, Finding, Inject, Site};
use crate::cluster::ClusterError;
use crate::event::{Actor, NodeState};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "node_restart",
    local: &[Way::plain("SIGTERM, then SIGKILL, then a start")],
    docker: &[Way::plain("restart by the engine")],
    refused: "",
    repair: Repair::Itself,
    class: "process_restart",
    holds: Some("process"),
};

pub(in crate::chaos) struct NodeRestart {
    times: u32,
    every: Duration,
    backoff: f64,
    grace: Duration,
    before: std::sync::OnceLock<u32>,
    /// How many rounds are left.
    left: watch::Sender<u32>,
}

impl NodeRestart {
    pub fn new(times: u32, every: Duration, backoff: f64, grace: Duration) -> Self {
        Self { times, every, backoff, grace, before: std::sync::OnceLock::new(), left: watch::channel(times).0 }
    }
}

async fn round(site: &Site, grace: Duration) -> Result<(), ClusterError> {
    each(&site.targets, async |node| site.cluster.restart(&node, grace, Actor::Fault).await).await
}

#[async_trait]
impl Inject for NodeRestart {
    async fn before(&self, site: &Site) -> Result<String, String> {
        let _ = self.before.set(site.starts());
        Ok(answers(site).await)
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        round(site, self.grace).await?;
        self.left.send_modify(|left| *left -= 1);
        let (site, left, grace, backoff, mut pause) = (site.clone(), self.left.clone(), self.grace, self.backoff, self.every);
        let cancel = site.cancel.clone();
        let rounds = async move {
            let mut healed = left.subscribe();
            loop {
                tokio::select! {
                    biased;
                    _ = healed.wait_for(|left| *left == 0) => return,
                    () = tokio::time::sleep(pause) => (),
                }
                pause = pause.mul_f64(backoff).min(Duration::from_secs(3600));
                // Who has stopped it meanwhile, or paused it, is not undone by force.
                if let Err(error) = round(&site, grace).await {
                    site.emitter.warn(format!("{} could not be restarted again: {error}", site.targets.join(", ")));
                }
                left.send_modify(|left| *left = left.saturating_sub(1));
            }
        };
        tokio::spawn(cancel.run_until_cancelled_owned(rounds));
        Ok(())
    }

    async fn installed(&self, site: &Site) -> Finding {
        let began = self.before.get().copied().unwrap_or_default();
        let starts = site.starts().saturating_sub(began);
        let wanted = u32::try_from(site.targets.len()).unwrap_or(u32::MAX);
        Finding::new(starts >= wanted, format!("{starts} starts since")).with("starts", f64::from(starts))
    }

    async fn felt(&self, site: &Site) -> Finding {
        // It was silent for as long as the restart took; now it has another process, which answers or not yet.
        let deadline = tokio::time::Instant::now() + FELT_WITHIN;
        let found = self.installed(site).await;
        while tokio::time::Instant::now() < deadline {
            let mut silent = false;
            for node in &site.targets {
                silent |= site.cluster.answers(node, super::PROBE).await.is_err();
            }
            if !silent {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let back = site.began.elapsed();
        let detail = format!(
            "{}, {} of {} rounds done, answering {:.1} s after",
            found.detail,
            self.times - *self.left.borrow(),
            self.times,
            back.as_secs_f64()
        );
        Finding { detail, ..found }.time("answered_after_ms", back)
    }

    async fn heal(&self, _site: &Site) -> Result<(), ClusterError> {
        self.left.send_replace(0);
        Ok(())
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        self.left.subscribe().wait_for(|left| *left == 0).await.ok()?;
        super::answers_again(site, |status| status.state == NodeState::Running).await
    }
}
