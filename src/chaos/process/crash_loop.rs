//! `crash_loop`: the node dies, and again so long after each start, until the fault is healed.

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{answers, answers_again, ended, installed, silence};
use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::chaos::driver::each;
use crate::chaos::fault::{Finding, Inject, Site};
use crate::cluster::ClusterError;
use crate::event::{Actor, NodeState};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "crash_loop",
    local: &[Way::plain("SIGKILL to the process group, after each start")],
    docker: &[Way::plain("kill by the engine, after each start")],
    refused: "",
    repair: Repair::Nobody,
    class: "crash_loop",
    holds: Some("process"),
};

pub(in crate::chaos) struct CrashLoop {
    after: Duration,
    over: CancellationToken,
}

impl CrashLoop {
    pub fn new(after: Duration) -> Self {
        Self { after, over: CancellationToken::new() }
    }
}

/// Kills the node so long after each of its starts.
async fn go_on(site: Site, node: String, after: Duration) {
    let mut changes = site.cluster.changes();
    loop {
        let running = site.cluster.status().into_iter().any(|status| status.node == node && status.state == NodeState::Running);
        if running {
            tokio::time::sleep(after).await;
            // It may have ended by itself meanwhile.
            let _ = site.cluster.kill(&node, libc::SIGKILL, Actor::Fault).await;
            continue;
        }
        if matches!(changes.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
            return;
        }
    }
}

#[async_trait]
impl Inject for CrashLoop {
    async fn before(&self, site: &Site) -> Result<String, String> {
        Ok(answers(site).await)
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| site.cluster.kill(&node, libc::SIGKILL, Actor::Fault).await).await?;
        for node in &site.targets {
            let (over, ended) = (self.over.clone(), site.cancel.clone());
            let task = go_on(site.clone(), node.clone(), self.after);
            tokio::spawn(async move {
                tokio::select! {
                    () = over.cancelled() => (),
                    () = ended.cancelled() => (),
                    () = task => (),
                }
            });
        }
        Ok(())
    }

    async fn installed(&self, site: &Site) -> Finding {
        installed(site, ended)
    }

    async fn felt(&self, site: &Site) -> Finding {
        silence(site).await
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        self.over.cancel();
        each(&site.targets, async |node| site.cluster.start(&node, Actor::Time).await).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        self.over.cancelled().await;
        answers_again(site, |status| status.state == NodeState::Running).await
    }
}
