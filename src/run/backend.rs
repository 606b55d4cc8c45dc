//! Which backend a cluster runs on: decided here, for trials and for clusters that are kept alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::containers::Containers;
use super::stage::Shared;
use crate::cluster::docker::{DockerCluster, DockerOptions, EngineError};
use crate::cluster::local::{LocalCluster, LocalOptions};
use crate::cluster::{Cluster, ClusterError};
use crate::emit::Emitter;
use crate::ids::TrialId;
use crate::scenario::model::{self, Backend};

/// What shall be placed, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Placing<'a> {
    pub backend: Backend,
    pub spec: &'a Arc<model::Cluster>,
    pub trial: &'a TrialId,
    pub seed: u64,
    /// The logs of nodes are written below it.
    pub record_dir: &'a Path,
    pub emitter: &'a Emitter,
}

/// A cluster of which nothing runs yet.
pub struct Placed {
    pub cluster: Arc<dyn Cluster>,
    /// The agent's own folder; its path tells nothing.
    pub agent_dir: PathBuf,
    /// Where the mediated engine shall listen.
    pub engine: PathBuf,
}

/// Chooses addresses and makes folders; starts nothing yet.
///
/// # Errors
/// When there are no addresses, a folder cannot be made, or a template fails.
pub async fn cluster(shared: &Shared, placing: Placing<'_>) -> Result<Placed, ClusterError> {
    let Placing { backend, spec, trial, seed, record_dir, emitter } = placing;
    // An agent may see this name.
    let opaque = blake3::hash(trial.as_str().as_bytes()).to_hex()[..8].to_owned();
    let agent_dir = shared.work.path().join(format!("{opaque}-home"));
    for dir in [record_dir, &agent_dir] {
        let what = || format!("cannot make `{}`", dir.display());
        std::fs::create_dir_all(dir).map_err(|source| ClusterError::Io { what: what(), source })?;
    }
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
    let cluster: Arc<dyn Cluster> = match (backend, &shared.containers) {
        (Backend::Local, _) => Arc::new(LocalCluster::new(Arc::clone(spec), options)?),
        (Backend::Docker, Some(containers)) => {
            let LocalOptions { run_dir, trial: opaque, seed, emitter, .. } = options.clone();
            let beside = LocalCluster::without_nodes(spec, LocalOptions { relay: false, ..options })?;
            let Containers { run, engine, images, program } = &**containers;
            let (engine, images, run, trial) = (engine.clone(), Arc::clone(images), run.clone(), trial.clone());
            let program = program.clone();
            let options = DockerOptions { engine, images, program, run, trial, opaque, run_dir, seed, emitter, beside };
            Arc::new(DockerCluster::new(Arc::clone(spec), options).await?)
        }
        (Backend::Docker, None) => return Err(ClusterError::Engine("no engine was connected to".into())),
    };
    Ok(Placed { cluster, agent_dir, engine })
}

/// Ends what is left of all clusters of this process, and the supervisor.
///
/// # Errors
/// When the engine does not answer, or keeps something.
pub async fn close(shared: &Shared) -> Result<(), EngineError> {
    let cleared = match &shared.containers {
        Some(containers) => containers.clear().await,
        None => Ok(()),
    };
    shared.supervisor.close().await;
    cleared
}
