//! Options of a trial's cluster.

use std::path::PathBuf;
use std::sync::Arc;

use super::program::WorkRoot;
use super::supervisor::SupervisorClient;
use chaosrun_event::emit::Emitter;

/// All options beside the cluster file.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Folder of the run's record: logs of nodes are written below it, for `show`.
    pub run_dir: PathBuf,
    /// Folder that nodes may see: their directories are created below it, under `trial`, and removed at `down`.
    pub work: Arc<WorkRoot>,
    /// Opaque name of the trial, for paths.
    pub trial: String,
    /// Value of `trial.seed` in templates.
    pub seed: u64,
    pub client: SupervisorClient,
    pub emitter: Emitter,
    /// Existing folder for the agent, with a path that reveals nothing.
    pub agent_dir: PathBuf,
    /// First folder on the agent's PATH: contains `docker` where the machine has none.
    pub tools_dir: Option<PathBuf>,
    /// True if advertised addresses are relays. Otherwise nodes dial each other directly, and link faults are impossible.
    pub relay: bool,
}
