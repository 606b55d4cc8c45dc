//! Running parts of a trial: the cluster, the docker proxy, the workload, the monitor. The function `down` ends all of them.

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

/// Maximum time since the last acknowledged operation for which the users of the workload count as served.
const SERVED: Duration = Duration::from_secs(1);

/// Values that all trials of a run share.
#[derive(Debug, Clone)]
pub struct RunShared {
    pub supervisor: SupervisorClient,
    /// Folder for files that nodes and agents may see. The folder is always removed at the end of the run.
    pub work: Arc<WorkRoot>,
    pub http: HttpClient,
    /// First folder on the PATH of an agent; `None` if the machine has a docker command line.
    pub tools_dir: Option<PathBuf>,
    /// True if agents that request a sandbox on `local` run without one. In this case the machine cannot create a sandbox, and the user has
    /// permitted the run.
    pub host_shell: bool,
    /// Engine and images; `None` if no trial runs in containers.
    pub containers: Option<Arc<Containers>>,
    /// Paths of the cassettes to write, by trial number.
    pub records: Arc<Records>,
}

/// Stage of one trial: all parts of the trial that run.
pub(crate) struct Stage {
    pub cluster: Arc<dyn Cluster>,
    /// Folder of the agent. The path of the folder reveals nothing about the trial.
    agent_dir: PathBuf,
    /// Path of the socket on which the docker proxy listens.
    engine: PathBuf,
    /// True if the agent requests a sandbox and the machine can create one.
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
    /// Prepares the parts of the trial: chooses addresses and creates folders. Starts no process.
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
            // The workload writes its history into this folder.
            std::fs::create_dir_all(&self.record_dir).map_err(|error| format!("cannot make `{}`: {error}", self.record_dir.display()))?;
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

    /// Returns true if the workspace of the agent gives access to the trial only.
    pub fn walled(&self) -> bool {
        self.sandboxed || self.scenario.backend.contains_agents
    }

    /// Starts the docker proxy and opens the workspace of the agent. Both exist only after the ticket, because only an agent needs them.
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

    /// Returns the context in which the actions of the cluster file are executed.
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

    /// Returns a function that returns true while users are served. If there is no workload, the function always returns true.
    pub fn served(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let stats = self.workload.as_ref().map(WorkloadHandle::stats);
        move || stats.as_ref().is_none_or(|stats| stats.window(SERVED).acknowledged > 0)
    }

    pub fn take_workload(&mut self) -> Option<WorkloadHandle> {
        self.workload.take()
    }

    /// Ends all parts of the trial. May be called in any state.
    pub async fn down(&mut self) -> Result<(), ClusterError> {
        if let Some(mut workload) = self.workload.take() {
            workload.stop().await;
        }
        if let Some((monitor, task)) = self.monitor.take() {
            monitor.stop();
            // A panic of the monitor has already been reported, and its task has ended.
            let _ = task.await;
        }
        if let Some(docker_proxy) = self.docker_proxy.take() {
            docker_proxy.stop().await;
        }
        let down = self.cluster.down().await;
        // Files that remain are removed with the whole work folder at the end of the run.
        let _ = std::fs::remove_dir_all(&self.agent_dir);
        down
    }
}
