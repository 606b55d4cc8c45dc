//! Running parts of a trial: the cluster, the docker proxy, the workload, the monitor. All of them end in `down`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::backend::{self, Placing, PreparedCluster};
use super::containers::Containers;
use super::recording::Records;
use super::trial::TrialContext;
use chaosrun_action::ActionContext;
use chaosrun_backend_local::WorkRoot;
use chaosrun_backend_local::supervisor::SupervisorClient;
use chaosrun_cluster::{Cluster, ClusterError, Service, Workspace, WorkspaceSpec};
use chaosrun_docker_proxy::{DockerProxy, DockerProxyHandle, ProxySettings};
use chaosrun_event::emit::Emitter;
use chaosrun_monitor::{Monitor, MonitorConfig, MonitorHandle};
use chaosrun_probe::HttpClient;
use chaosrun_scenario::model::{Provider, Scenario};
use chaosrun_workload::{WorkloadConfig, WorkloadHandle, WorkloadStarter};

/// Longest time since the last acknowledged operation for which users count as served.
const SERVED: Duration = Duration::from_secs(1);

/// Parts shared by the trials of a run.
#[derive(Debug, Clone)]
pub struct RunShared {
    pub supervisor: SupervisorClient,
    /// Folders that nodes and agents may see. They are removed at the end of the run, whatever happens.
    pub work: Arc<WorkRoot>,
    pub http: HttpClient,
    /// First folder on an agent's PATH, if the machine has no docker command line of its own.
    pub tools_dir: Option<PathBuf>,
    /// True if agents that ask for a sandbox on `local` run without one. The machine cannot provide a sandbox, and the user allowed this.
    pub host_shell: bool,
    /// Engine and images, if a trial runs in containers.
    pub containers: Option<Arc<Containers>>,
    /// Cassettes to write.
    pub records: Arc<Records>,
}

/// All running parts of one trial.
pub struct Stage {
    pub cluster: Arc<dyn Cluster>,
    /// Folder of the agent. Its path reveals nothing about the trial.
    agent_dir: PathBuf,
    /// Path at which the docker proxy listens.
    engine: PathBuf,
    /// True if the agent asks for a sandbox and can have one.
    sandboxed: bool,
    record_dir: PathBuf,
    scenario: Arc<Scenario>,
    seed: u64,
    http: HttpClient,
    emitter: Emitter,
    cancel: CancellationToken,
    docker_proxy: Option<DockerProxyHandle>,
    workload: Option<WorkloadHandle>,
    monitor: Option<(MonitorHandle, JoinHandle<()>)>,
}

impl Stage {
    /// Prepares the parts: chooses addresses and creates folders. Starts nothing yet.
    pub async fn new(context: &TrialContext) -> Result<Self, ClusterError> {
        let TrialContext { plan, trial, shared, record_dir, emitter, cancel, .. } = context;
        let placing = Placing { backend: plan.scenario.backend, spec: &plan.scenario.cluster, trial, seed: plan.seed, record_dir, emitter };
        let PreparedCluster { cluster, agent_dir, engine } = backend::cluster(shared, placing).await?;
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
            docker_proxy: None,
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
            self.workload = Some(WorkloadStarter::start(config).await.map_err(|error| error.to_string())?);
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

    /// Returns true if the agent can reach only the trial from its workspace.
    pub fn walled(&self) -> bool {
        self.sandboxed || self.scenario.backend.contains_agents
    }

    /// Starts the docker proxy and opens the workspace. Only an agent needs them, so they exist only after the ticket.
    pub async fn mediate(&mut self, secret: &str, services: Vec<Service>) -> Result<Workspace, String> {
        let mut settings = ProxySettings::new(&self.engine, secret);
        settings.faces = super::container_views::of(&self.scenario, self.cluster.topology());
        let docker_proxy = DockerProxy::start(Arc::clone(&self.cluster), settings, self.emitter.clone());
        self.docker_proxy = Some(docker_proxy.map_err(|error| error.to_string())?);
        let files = match &self.scenario.variant.provider {
            Provider::Command(program) => program.files.iter().map(|(name, file)| (name.clone(), file.text.clone())).collect(),
            _ => IndexMap::new(),
        };
        let workspace_spec = WorkspaceSpec { engine: self.engine.clone(), sandbox: self.sandboxed, services, files };
        self.cluster.open_workspace(&workspace_spec).await.map_err(|error| error.to_string())
    }

    /// Returns the context in which the actions of the cluster are carried out.
    pub fn action_context(&self, monitor: &MonitorHandle) -> ActionContext {
        ActionContext {
            spec: Arc::clone(&self.scenario.cluster),
            cluster: Arc::clone(&self.cluster),
            monitor: monitor.clone(),
            http: self.http.clone(),
        }
    }

    pub fn monitor(&self) -> Option<&MonitorHandle> {
        self.monitor.as_ref().map(|(monitor, _)| monitor)
    }

    /// Returns a function that tells whether users are served. Without a workload, the function always returns true.
    pub fn served(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let stats = self.workload.as_ref().map(WorkloadHandle::stats);
        move || stats.as_ref().is_none_or(|stats| stats.window(SERVED).acknowledged > 0)
    }

    pub fn take_workload(&mut self) -> Option<WorkloadHandle> {
        self.workload.take()
    }

    /// Ends all parts. The function may be called in any state.
    pub async fn down(&mut self) -> Result<(), ClusterError> {
        if let Some(mut workload) = self.workload.take() {
            workload.stop().await;
        }
        if let Some((monitor, task)) = self.monitor.take() {
            monitor.stop();
            // A panic of the monitor is already reported, and leaves nothing to end.
            let _ = task.await;
        }
        if let Some(docker_proxy) = self.docker_proxy.take() {
            docker_proxy.stop().await;
        }
        let down = self.cluster.down().await;
        // Remaining files are removed with the whole work folder at the end of the run.
        let _ = std::fs::remove_dir_all(&self.agent_dir);
        down
    }
}
