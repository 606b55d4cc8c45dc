//! Evidence of a fault: the proofs that the fault is installed, felt, and gone. Each proof is an event with measurements.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::driver::micros;
use chaosrun_event::{EventKind, EvidenceStep};
use chaosrun_fault::injection::FELT_WITHIN;
use chaosrun_fault::{FaultContext, FaultFinding, Injection};

/// Interval between two checks that the protected parts of a fault are still present. Only chaosrun may remove these parts.
const LOOKED: Duration = Duration::from_millis(500);

/// Witness of one injected fault, which collects the evidence.
#[derive(Clone)]
pub(super) struct Witness {
    pub context: FaultContext,
    pub injection: Arc<dyn Injection>,
}

/// Result of the proof that a fault is installed and felt.
#[derive(Debug, Clone)]
pub(super) struct WitnessResult {
    /// Time from the injection to the measured effect; `None` if no effect was measured.
    pub felt: Option<Duration>,
    pub detail: String,
}

impl Witness {
    /// Reads the fault back until it is active, and then waits until its effect is measured.
    pub async fn installed_and_felt(&self, before: &str) -> WitnessResult {
        let context = &self.context;
        let deadline = Instant::now() + FELT_WITHIN;
        let mut changes = context.cluster.changes();
        let installed = loop {
            let found = self.injection.installed(context).await;
            if found.ok || Instant::now() > deadline {
                break found;
            }
            // Only changes of node states send notifications. Other effects are polled.
            let _ = tokio::time::timeout(Duration::from_millis(20), changes.recv()).await;
        };
        self.tell(EvidenceStep::Installed, &installed);
        if !installed.ok {
            return WitnessResult { felt: None, detail: installed.detail };
        }
        let mut felt = self.injection.felt(context).await;
        let after = context.began.elapsed();
        if let Some(hit) = self.injection.hit(context).await {
            self.tell(EvidenceStep::Hit, &hit);
        }
        if !before.is_empty() {
            felt.detail = format!("{before} before; now {}", felt.detail);
        }
        self.tell(EvidenceStep::Felt, &felt);
        WitnessResult { felt: felt.ok.then_some(after), detail: felt.detail }
    }

    /// Waits until the fault is gone. Returns false if the removal of the fault cannot be observed, or if the trial is over.
    pub async fn gone(&self) -> bool {
        match self.injection.gone(&self.context).await {
            Some(found) => {
                self.tell(EvidenceStep::Gone, &found);
                found.ok
            }
            None => false,
        }
    }

    /// Waits until an actor other than chaosrun removes parts of the fault that only chaosrun may remove. Returns the observation that
    /// showed the removal.
    pub async fn tampered(&self) -> String {
        loop {
            tokio::time::sleep(LOOKED).await;
            match self.injection.intact(&self.context).await {
                None => std::future::pending::<()>().await,
                Some(found) if !found.ok => return found.detail,
                Some(_) => (),
            }
        }
    }

    pub fn tell(&self, step: EvidenceStep, found: &FaultFinding) {
        let FaultFinding { ok, detail, numbers } = found.clone();
        let after_us = micros(self.context.began.elapsed());
        self.context.emitter.emit(EventKind::FaultEvidence { id: self.context.id.clone(), step, ok, detail, numbers, after_us });
    }
}
