//! What a trial has on stage: the cluster, the mediated engine, the workload, the monitor. All of it ends in `down`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::backend::{self, Placed, Placing};
use super::containers::Containers;
use super::tape::Records;
use super::trial::TrialContext;
use crate::action::Desk;
use crate::cluster::local::WorkRoot;
use crate::cluster::local::supervisor::SupervisorClient;
use crate::cluster::mediator::{Mediator, MediatorHandle, Settings};
use crate::cluster::{Cluster, ClusterError, Seat, Seating, Service};
use crate::emit::Emitter;
use crate::monitor::{Monitor, MonitorConfig, MonitorHandle};
use crate::observe::HttpClient;
use crate::scenario::model::{Backend, Provider, Scenario};
use crate::workload::{Workload, WorkloadConfig, WorkloadHandle};

/// Users are served when something was acknowledged within this.
const SERVED: Duration = Duration::from_secs(1);

/// What trials of one run share.
#[derive(Debug, Clone)]
pub struct Shared {
    pub supervisor: SupervisorClient,
    /// What nodes and agents may see; removed at the end of the run, whatever happens.
    pub work: Arc<WorkRoot>,
    pub http: HttpClient,
    /// First on an agent's PATH, when the machine has no docker CLI of its own.
    pub tools_dir: Option<PathBuf>,
    /// Agents that ask for a sandbox get none on `local`: there can be none, and the user allowed it.
    pub host_shell: bool,
    /// When a trial runs in containers.
    pub containers: Option<Arc<Containers>>,
    /// Cassettes that are written.
    pub records: Arc<Records>,
}

/// Everything of one trial that runs.
pub struct Stage {
    pub cluster: Arc<dyn Cluster>,
    /// The agent's own folder; its path tells nothing.
    agent_dir: PathBuf,
    /// Where the mediated engine listens.
    engine: PathBuf,
    /// Whether the agent asks for a sandbox, and may have one.
    sandboxed: bool,
    record_dir: PathBuf,
    scenario: Arc<Scenario>,
    seed: u64,
    http: HttpClient,
    emitter: Emitter,
    cancel: CancellationToken,
    mediator: Option<MediatorHandle>,
    workload: Option<WorkloadHandle>,
    monitor: Option<(MonitorHandle, JoinHandle<()>)>,
}

impl Stage {
    /// Chooses addresses and makes folders; starts nothing yet.
    pub async fn new(context: &TrialContext) -> Result<Self, ClusterError> {
        let TrialContext { plan, trial, shared, record_dir, emitter, cancel, .. } = context;
        let placing = Placing { backend: plan.scenario.backend, spec: &plan.scenario.cluster, trial, seed: plan.seed, record_dir, emitter };
        let Placed { cluster, agent_dir, engine } = backend::cluster(shared, placing).await?;
        Ok(Self {
            cluster,
            agent_dir,
            engine,
            sandboxed: plan.scenario.variant.sandbox && !shared.host_shell,
            record_dir: record_dir.clone(),
            scenario: Arc::clone(&plan.scenario),
            seed: plan.seed,
            http: shared.http.clone(),
            emitter: emitter.clone(),
            cancel: cancel.clone(),
            mediator: None,
            workload: None,
            monitor: None,
        })
    }

    pub fn record_dir(&self) -> &Path {
        &self.record_dir
    }

    /// Starts the workload and the monitor.
    pub async fn load_and_watch(&mut self) -> Result<(), String> {
        if let Some(usage) = &self.scenario.workload {
            let spec = self.scenario.cluster.workloads.get(&usage.name).ok_or_else(|| format!("no workload `{}`", usage.name))?;
            let config = WorkloadConfig {
                spec: spec.clone(),
                usage: usage.clone(),
                cluster: Arc::clone(&self.cluster),
                seed: self.seed,
                clock_scale: self.scenario.cluster.clock_scale,
                emitter: self.emitter.clone(),
                cancel: self.cancel.clone(),
                run_dir: self.record_dir.clone(),
            };
            self.workload = Some(Workload::start(config).await.map_err(|error| error.to_string())?);
        }
        self.monitor = Some(Monitor::start(MonitorConfig {
            spec: Arc::clone(&self.scenario.cluster),
            cluster: Arc::clone(&self.cluster),
            workload: self.workload.as_ref().map(WorkloadHandle::stats),
            seed: self.seed,
            http: self.http.clone(),
            emitter: self.emitter.clone(),
        }));
        Ok(())
    }

    /// Whether the agent's place is one that nothing but the trial can be reached from.
    pub fn walled(&self) -> bool {
        self.sandboxed || self.scenario.backend == Backend::Docker
    }

    /// Only an agent needs the engine and a place to work: they are there from the ticket on.
    pub async fn mediate(&mut self, secret: &str, services: Vec<Service>) -> Result<Seat, String> {
        let mut settings = Settings::new(&self.engine, secret);
        settings.faces = super::faces::of(&self.scenario, self.cluster.topology());
        let mediator = Mediator::start(Arc::clone(&self.cluster), settings, self.emitter.clone());
        self.mediator = Some(mediator.map_err(|error| error.to_string())?);
        let files = match &self.scenario.variant.provider {
            Provider::Command(program) => program.files.iter().map(|(name, file)| (name.clone(), file.text.clone())).collect(),
            _ => IndexMap::new(),
        };
        let seating = Seating { engine: self.engine.clone(), sandbox: self.sandboxed, services, files };
        self.cluster.seat(&seating).await.map_err(|error| error.to_string())
    }

    /// What the cluster's actions are carried out on.
    pub fn desk(&self, monitor: &MonitorHandle) -> Desk {
        Desk {
            spec: Arc::clone(&self.scenario.cluster),
            cluster: Arc::clone(&self.cluster),
            monitor: monitor.clone(),
            http: self.http.clone(),
        }
    }

    pub fn monitor(&self) -> Option<&MonitorHandle> {
        self.monitor.as_ref().map(|(monitor, _)| monitor)
    }

    /// Asks whether users are being served; always true when nobody uses it.
    pub fn served(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let stats = self.workload.as_ref().map(WorkloadHandle::stats);
        move || stats.as_ref().is_none_or(|stats| stats.window(SERVED).acknowledged > 0)
    }

    pub fn take_workload(&mut self) -> Option<WorkloadHandle> {
        self.workload.take()
    }

    /// Ends everything. Safe to call whatever was started.
    pub async fn down(&mut self) -> Result<(), ClusterError> {
        if let Some(mut workload) = self.workload.take() {
            workload.stop().await;
        }
        if let Some((monitor, task)) = self.monitor.take() {
            monitor.stop();
            // A monitor that panicked has said so already; there is nothing left to end.
            let _ = task.await;
        }
        if let Some(mediator) = self.mediator.take() {
            mediator.stop().await;
        }
        let down = self.cluster.down().await;
        // What stays is removed with the whole work folder at the end of the run.
        let _ = std::fs::remove_dir_all(&self.agent_dir);
        down
    }
}
