//! Manual faults, on a cluster that runs without a trial. Each manual fault is a timeline of one entry that begins immediately. The
//! timeline ends when its duration is over or a command heals the fault. Events report the progress of the timeline.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indexmap::IndexMap;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::driver::{ChaosState, FaultDriver};
use chaosrun_base::task;
use chaosrun_cluster::Cluster;
use chaosrun_diagnostic::Diagnostic;
use chaosrun_event::emit::Emitter;
use chaosrun_fault::ActiveEffects;
use chaosrun_monitor::MonitorHandle;
use chaosrun_scenario::manual_fault;
use chaosrun_scenario::model;
use chaosrun_scenario::model::{Backend, Chaos};

/// Faults that a user has injected by command. If this value is dropped, its faults remain active until the cluster ends.
pub struct ManualFaults {
    pub spec: Arc<model::ClusterSpec>,
    pub backend: Backend,
    pub seed: u64,
    pub cluster: Arc<dyn Cluster>,
    pub emitter: Emitter,
    pub cancel: CancellationToken,
    effects: ActiveEffects,
    active: Mutex<Active>,
}

/// Faults that have not ended, and the total number of injected faults.
#[derive(Default)]
struct Active {
    count: u32,
    faults: IndexMap<String, ManualFault>,
}

struct ManualFault {
    chaos: Chaos,
    let_go: CancellationToken,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl ManualFault {
    fn has_ended(&self) -> bool {
        self.cancel.is_cancelled() || self.task.is_finished()
    }
}

impl ManualFaults {
    #[must_use]
    pub fn new(
        spec: Arc<model::ClusterSpec>,
        backend: Backend,
        seed: u64,
        cluster: Arc<dyn Cluster>,
        emitter: Emitter,
        cancel: CancellationToken,
    ) -> Self {
        Self { spec, backend, seed, cluster, emitter, cancel, effects: ActiveEffects::default(), active: Mutex::default() }
    }

    /// Starts the injection of the fault that `text` describes. Returns the id of the fault and its progress.
    ///
    /// # Errors
    /// Returns all problems of `text`.
    pub fn inject(
        &self,
        text: &str,
        lasts: Option<&str>,
        monitor: &MonitorHandle,
    ) -> Result<(String, watch::Receiver<ChaosState>), Vec<Diagnostic>> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.faults.retain(|_, one| !one.has_ended());
        let id = format!("f{}", active.count + 1);
        let others: Vec<Chaos> = active.faults.values().map(|one| one.chaos.clone()).collect();
        let chaos = manual_fault(text, &id, lasts, (&self.spec, self.backend), &others)?;
        active.count += 1;
        let (cancel, let_go) = (self.cancel.child_token(), CancellationToken::new());
        let driver = FaultDriver {
            spec: Arc::clone(&self.spec),
            chaos: Arc::new([chaos.clone()]),
            truth: Arc::new([]),
            seed: self.seed,
            cluster: Arc::clone(&self.cluster),
            monitor: monitor.clone(),
            emitter: self.emitter.clone(),
            cancel: cancel.clone(),
            effects: self.effects.clone(),
            commands: watch::channel(0).1,
            let_go: Some(let_go.clone()),
        };
        let (publish, state) = watch::channel(ChaosState::default());
        let ended = cancel.clone();
        let task = task::spawn(async move {
            driver.run(Instant::now(), publish).await;
            // The cancellation also ends the tasks that still watch the fault.
            ended.cancel();
        });
        active.faults.insert(id.clone(), ManualFault { chaos, let_go, cancel, task });
        Ok((id, state))
    }

    /// Returns the ids of the faults that have not ended.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.faults.iter().filter(|(_, one)| !one.has_ended()).map(|(id, _)| id.clone()).collect()
    }

    /// Waits until these faults have ended. A healed fault ends only after its removal has been observed for a moment.
    pub async fn ended(&self, ids: &[String]) {
        let watched: Vec<_> = {
            let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
            ids.iter().filter_map(|id| active.faults.get(id)).map(|one| one.cancel.clone()).collect()
        };
        for ended in watched {
            ended.cancelled().await;
        }
    }

    /// Heals a fault. Returns true if the fault is gone or cannot be removed. Returns false if no active fault has the id `id`.
    pub async fn heal(&self, id: &str) -> bool {
        let one = self.active.lock().unwrap_or_else(PoisonError::into_inner).faults.shift_remove(id);
        let Some(ManualFault { let_go, cancel, task, .. }) = one.filter(|one| !one.has_ended()) else { return false };
        let_go.cancel();
        // A panic of the task has already been reported, and the task has ended.
        let _ = task.await;
        cancel.cancel();
        true
    }

    /// Removes the effects of all faults on links. All other effects end with the cluster.
    pub async fn mend(&self) {
        self.effects.mend(&*self.cluster).await;
    }
}
