//! The evidence of a fault: that it is installed, that it is felt, that it is gone. Each is an event with numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::{FELT_WITHIN, Finding, Inject, Site, micros};
use crate::event::{EvidenceStep, Kind};

/// How often it is looked whether somebody has taken away what only we may.
const LOOKED: Duration = Duration::from_millis(500);

/// Whoever watches one injected fault.
#[derive(Clone)]
pub(super) struct Witness {
    pub site: Site,
    pub inject: Arc<dyn Inject>,
}

/// What became of the evidence.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Since the injection; none = it was not felt.
    pub felt: Option<Duration>,
    pub detail: String,
}

impl Witness {
    /// Reads it back until it is there, then waits until it is felt.
    pub async fn installed_and_felt(&self, before: &str) -> Seen {
        let site = &self.site;
        let deadline = Instant::now() + FELT_WITHIN;
        let mut changes = site.cluster.changes();
        let installed = loop {
            let found = self.inject.installed(site).await;
            if found.ok || Instant::now() > deadline {
                break found;
            }
            // What is not a node's state shows no change: it is looked at again.
            let _ = tokio::time::timeout(Duration::from_millis(20), changes.recv()).await;
        };
        self.tell(EvidenceStep::Installed, &installed);
        if !installed.ok {
            return Seen { felt: None, detail: installed.detail };
        }
        let mut felt = self.inject.felt(site).await;
        let after = site.began.elapsed();
        if let Some(hit) = self.inject.hit(site).await {
            self.tell(EvidenceStep::Hit, &hit);
        }
        if !before.is_empty() {
            felt.detail = format!("{before} before; now {}", felt.detail);
        }
        self.tell(EvidenceStep::Felt, &felt);
        Seen { felt: felt.ok.then_some(after), detail: felt.detail }
    }

    /// Waits until it is gone. False when nothing would show, or the trial is over.
    pub async fn gone(&self) -> bool {
        match self.inject.gone(&self.site).await {
            Some(found) => {
                self.tell(EvidenceStep::Gone, &found);
                found.ok
            }
            None => false,
        }
    }

    /// Waits until somebody else has taken away what only we may: how that showed.
    pub async fn tampered(&self) -> String {
        loop {
            tokio::time::sleep(LOOKED).await;
            match self.inject.intact(&self.site).await {
                None => std::future::pending::<()>().await,
                Some(found) if !found.ok => return found.detail,
                Some(_) => (),
            }
        }
    }

    pub fn tell(&self, step: EvidenceStep, found: &Finding) {
        let Finding { ok, detail, numbers } = found.clone();
        let after_us = micros(self.site.began.elapsed());
        self.site.emitter.emit(Kind::FaultEvidence { id: self.site.id.clone(), step, ok, detail, numbers, after_us });
    }
}
