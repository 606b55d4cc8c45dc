//! Options of the cluster of a trial.

use std::path::PathBuf;
use std::sync::Arc;

use super::program::WorkRoot;
use super::supervisor::SupervisorClient;
use chaosrun_event::emit::Emitter;

/// All options of a local cluster, in addition to the cluster file.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Folder of the record of the run. The logs of nodes are written below it, for the command `show`.
    pub run_dir: PathBuf,
    /// Folder that nodes may see. The directories of the nodes are created in its subfolder `trial`, and `down` removes them.
    pub work: Arc<WorkRoot>,
    /// Name of the trial in paths, which reveals nothing about the trial.
    pub trial: String,
    /// Value of `trial.seed` in templates.
    pub seed: u64,
    pub client: SupervisorClient,
    pub emitter: Emitter,
    /// Existing folder for the agent. The path of the folder reveals nothing about chaosrun.
    pub agent_dir: PathBuf,
    /// First folder on the PATH of the agent. The folder contains `docker` if the machine has no Docker client.
    pub tools_dir: Option<PathBuf>,
    /// True if a relay listens on the advertised addresses. If false, nodes dial each other directly, and link faults are impossible.
    pub relay: bool,
}
