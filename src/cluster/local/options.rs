//! What a trial's cluster is built with.

use std::path::PathBuf;
use std::sync::Arc;

use super::program::WorkRoot;
use super::supervisor::SupervisorClient;
use crate::emit::Emitter;

/// Everything but the cluster file.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Kept for `show`: the nodes' logs are written below it.
    pub run_dir: PathBuf,
    /// What nodes may see: their directories are made below it, under `trial`, and removed at `down`.
    pub work: Arc<WorkRoot>,
    /// An opaque name of the trial, for paths.
    pub trial: String,
    /// `trial.seed` in templates.
    pub seed: u64,
    pub client: SupervisorClient,
    pub emitter: Emitter,
    /// The agent's own folder: it exists, and its path tells nothing.
    pub agent_dir: PathBuf,
    /// First on the agent's PATH: holds `docker` where the machine has none.
    pub tools_dir: Option<PathBuf>,
    /// Whether advertised addresses are relays; without, nodes dial each other directly and link faults are not to be had.
    pub relay: bool,
}
