//! Faults by hand, on a cluster that runs without a trial: each is a timeline of one entry that begins at once, and ends when its
//! time is over or somebody says so. What becomes of it is told as events.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indexmap::IndexMap;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::driver::{ChaosState, Driver};
use super::states::States;
use crate::cluster::Cluster;
use crate::diagnostic::Diagnostic;
use crate::emit::Emitter;
use crate::monitor::MonitorHandle;
use crate::scenario::fault_by_hand;
use crate::scenario::model::{self, Backend, Chaos};

/// All that was injected by hand and has not ended. When dropped its faults stay, until the cluster ends.
pub struct Hand {
    pub spec: Arc<model::Cluster>,
    pub backend: Backend,
    pub seed: u64,
    pub cluster: Arc<dyn Cluster>,
    pub emitter: Emitter,
    pub cancel: CancellationToken,
    states: States,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    count: u32,
    faults: IndexMap<String, One>,
}

struct One {
    chaos: Chaos,
    let_go: CancellationToken,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl One {
    fn has_ended(&self) -> bool {
        self.cancel.is_cancelled() || self.task.is_finished()
    }
}

impl Hand {
    #[must_use]
    pub fn new(
        spec: Arc<model::Cluster>,
        backend: Backend,
        seed: u64,
        cluster: Arc<dyn Cluster>,
        emitter: Emitter,
        cancel: CancellationToken,
    ) -> Self {
        Self { spec, backend, seed, cluster, emitter, cancel, states: States::default(), held: Mutex::default() }
    }

    /// Begins to inject what `text` says; gives its id, and what becomes of it.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn inject(
        &self,
        text: &str,
        lasts: Option<&str>,
        monitor: &MonitorHandle,
    ) -> Result<(String, watch::Receiver<ChaosState>), Vec<Diagnostic>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.faults.retain(|_, one| !one.has_ended());
        let id = format!("f{}", held.count + 1);
        let others: Vec<Chaos> = held.faults.values().map(|one| one.chaos.clone()).collect();
        let chaos = fault_by_hand(text, &id, lasts, (&self.spec, self.backend), &others)?;
        held.count += 1;
        let (cancel, let_go) = (self.cancel.child_token(), CancellationToken::new());
        let driver = Driver {
            spec: Arc::clone(&self.spec),
            chaos: Arc::new([chaos.clone()]),
            truth: Arc::new([]),
            seed: self.seed,
            cluster: Arc::clone(&self.cluster),
            monitor: monitor.clone(),
            emitter: self.emitter.clone(),
            cancel: cancel.clone(),
            states: self.states.clone(),
            commands: watch::channel(0).1,
            let_go: Some(let_go.clone()),
        };
        let (publish, state) = watch::channel(ChaosState::default());
        let ended = cancel.clone();
        let task = tokio::spawn(async move {
            driver.run(Instant::now(), publish).await;
            // Also those who would still watch whether it is there.
            ended.cancel();
        });
        held.faults.insert(id.clone(), One { chaos, let_go, cancel, task });
        Ok((id, state))
    }

    /// Ids of those that have not ended.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.faults.iter().filter(|(_, one)| !one.has_ended()).map(|(id, _)| id.clone()).collect()
    }

    /// Waits until these have ended: a fault that is healed is watched a moment longer, and has its place until then.
    pub async fn ended(&self, ids: &[String]) {
        let watched: Vec<_> = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            ids.iter().filter_map(|id| held.faults.get(id)).map(|one| one.cancel.clone()).collect()
        };
        for ended in watched {
            ended.cancelled().await;
        }
    }

    /// Ends it; returns when it is gone, or does not go. False when there is none of that id.
    pub async fn heal(&self, id: &str) -> bool {
        let one = self.held.lock().unwrap_or_else(PoisonError::into_inner).faults.shift_remove(id);
        let Some(One { let_go, cancel, task, .. }) = one.filter(|one| !one.has_ended()) else { return false };
        let_go.cancel();
        // It panicked: then it has said so, and there is nothing to wait for.
        let _ = task.await;
        cancel.cancel();
        true
    }

    /// Ends what faults do to links: the rest ends with the cluster.
    pub async fn mend(&self) {
        self.states.mend(&*self.cluster).await;
    }
}
