//! Registry of the backends on which clusters can be created, for trials and for kept clusters. A line in [`SHIPPED`] or a call of
//! [`register`] registers a backend.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;

use super::containers::Containers;
use super::stage::RunShared;
use chaosrun_backend_docker::{DockerCluster, DockerOptions, EngineError};
use chaosrun_backend_local::{LocalCluster, LocalOptions};
use chaosrun_base::ids::TrialId;
use chaosrun_cluster::backend;
use chaosrun_cluster::backend::{DOCKER, Description, LOCAL};
use chaosrun_cluster::{Cluster, ClusterError};
use chaosrun_event::emit::Emitter;
use chaosrun_scenario::model;
use chaosrun_scenario::model::Backend;

/// Registration of a backend: the backend and the constructor of its clusters.
#[derive(Clone, Copy)]
pub struct Registration {
    pub description: &'static Description,
    pub make: Make,
}

/// Function that creates a cluster without starting it.
pub type Make = for<'a> fn(Making<'a>) -> BoxFuture<'a, Result<Arc<dyn Cluster>, ClusterError>>;

/// Arguments of the constructor of a cluster.
pub struct Making<'a> {
    pub shared: &'a RunShared,
    pub spec: &'a Arc<model::ClusterSpec>,
    pub trial: &'a TrialId,
    /// Options for processes on this machine: folders, seed, supervisor and emitter of the trial.
    pub options: LocalOptions,
}

static SHIPPED: [Registration; 2] =
    [Registration { description: &LOCAL, make: local }, Registration { description: &DOCKER, make: docker }];

static OTHERS: RwLock<Vec<Registration>> = RwLock::new(Vec::new());

/// Registers a backend in addition to the backends that ship with the program. Afterwards files and options may name the backend. Must be
/// called at the start of the program.
pub fn register(registration: Registration) {
    backend::register(registration.description);
    OTHERS.write().unwrap_or_else(PoisonError::into_inner).push(registration);
}

fn maker(backend: Backend) -> Option<Make> {
    let others = OTHERS.read().unwrap_or_else(PoisonError::into_inner);
    let found = SHIPPED.iter().chain(&*others).find(|registration| registration.description.name == backend.name);
    found.map(|registration| registration.make)
}

fn local(making: Making<'_>) -> BoxFuture<'_, Result<Arc<dyn Cluster>, ClusterError>> {
    Box::pin(async move { Ok(Arc::new(LocalCluster::new(Arc::clone(making.spec), making.options)?) as Arc<dyn Cluster>) })
}

fn docker(making: Making<'_>) -> BoxFuture<'_, Result<Arc<dyn Cluster>, ClusterError>> {
    Box::pin(async move {
        let Making { shared, spec, trial, options } = making;
        let containers = shared.containers.as_deref().ok_or_else(|| ClusterError::Engine("no engine was connected to".into()))?;
        let LocalOptions { run_dir, trial: opaque, seed, emitter, .. } = options.clone();
        let beside = LocalCluster::without_nodes(spec, LocalOptions { relay: false, ..options })?;
        let Containers { run, engine, images, program } = containers;
        let (engine, images, run, trial) = (engine.clone(), Arc::clone(images), run.clone(), trial.clone());
        let program = program.clone();
        let options = DockerOptions { engine, images, program, run, trial, opaque, run_dir, seed, emitter, beside };
        Ok(Arc::new(DockerCluster::new(Arc::clone(spec), options).await?) as Arc<dyn Cluster>)
    })
}

/// Arguments for the creation of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Placing<'a> {
    pub backend: Backend,
    pub spec: &'a Arc<model::ClusterSpec>,
    pub trial: &'a TrialId,
    pub seed: u64,
    /// Folder of the record, below which the logs of nodes are written. It is created with the first file.
    pub record_dir: &'a Path,
    pub emitter: &'a Emitter,
}

/// Cluster that is created but not started, with the paths for its agent.
pub struct PreparedCluster {
    pub cluster: Arc<dyn Cluster>,
    /// Folder of the agent. The path of the folder reveals nothing about the trial.
    pub agent_dir: PathBuf,
    /// Path of the socket on which the docker proxy will listen.
    pub engine: PathBuf,
}

/// Creates a cluster without starting it: chooses addresses and creates folders.
///
/// # Errors
/// Returns an error if no addresses are free, if a folder cannot be created, or if a template fails.
pub async fn cluster(shared: &RunShared, placing: Placing<'_>) -> Result<PreparedCluster, ClusterError> {
    let Placing { backend, spec, trial, seed, record_dir, emitter } = placing;
    // The name is a hash, because an agent may see it.
    let opaque = blake3::hash(trial.as_str().as_bytes()).to_hex()[..8].to_owned();
    let agent_dir = shared.work.path().join(format!("{opaque}-home"));
    let failed = |source| ClusterError::Io { what: format!("cannot make `{}`", agent_dir.display()), source };
    std::fs::create_dir_all(&agent_dir).map_err(failed)?;
    let engine = shared.work.path().join(format!("{opaque}.sock"));
    let options = LocalOptions {
        run_dir: record_dir.to_owned(),
        work: Arc::clone(&shared.work),
        trial: opaque,
        seed,
        client: shared.supervisor.clone(),
        emitter: emitter.clone(),
        agent_dir: agent_dir.clone(),
        tools_dir: shared.tools_dir.clone(),
        relay: true,
    };
    let make = maker(backend).ok_or_else(|| ClusterError::Engine(format!("nothing makes clusters on `{}`", backend.as_str())))?;
    let cluster = make(Making { shared, spec, trial, options }).await?;
    Ok(PreparedCluster { cluster, agent_dir, engine })
}

/// Ends all remaining clusters of this process, and the supervisor.
///
/// # Errors
/// Returns an error if the engine does not answer, or does not remove an object.
pub async fn close(shared: &RunShared) -> Result<(), EngineError> {
    let cleared = match &shared.containers {
        Some(containers) => containers.clear().await,
        None => Ok(()),
    };
    shared.supervisor.close().await;
    cleared
}
