//! Records of the execs (commands started with `docker exec`) of a trial.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use indexmap::IndexMap;
use serde::Deserialize;
use tokio::sync::watch;

use super::container::{Container, opaque};
use super::problem::EngineProblem;
use chaosrun_cluster::{Resizer, Terminal};

/// Largest number of stored execs. Beyond this number, the oldest exec that is not running is removed.
const REMEMBERED: usize = 1024;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ExecConfig {
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub tty: bool,
    pub privileged: bool,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// Size of the terminal as rows and columns. Only newer clients send this field.
    console_size: Option<[u16; 2]>,
    pub env: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExecState {
    Created,
    Running { pid: u32 },
    Ended { code: i32 },
}

/// Record of one exec, a command that an agent runs in a node. The record exists from the creation of the exec on.
#[derive(Debug)]
pub(super) struct ExecRecord {
    pub id: String,
    pub container: String,
    pub node: String,
    pub command: Vec<String>,
    pub config: ExecConfig,
    pub state: watch::Sender<ExecState>,
    pub screen: Mutex<Screen>,
}

/// Terminal of an exec. Unused if the exec has no terminal.
#[derive(Default)]
pub(super) struct Screen {
    /// Terminal size requested by the client, possibly before the command runs.
    pub size: Option<Terminal>,
    pub resize: Option<Resizer>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.size).finish_non_exhaustive()
    }
}

/// All stored execs of a trial.
#[derive(Debug)]
pub(super) struct Execs {
    secret: String,
    next: AtomicU64,
    records: Mutex<IndexMap<String, Arc<ExecRecord>>>,
}

impl Execs {
    pub fn new(secret: String) -> Self {
        Self { secret, next: AtomicU64::new(1), records: Mutex::new(IndexMap::new()) }
    }

    pub fn add(&self, container: &Container, command: Vec<String>, config: ExecConfig) -> Result<String, EngineProblem> {
        let id = opaque(&self.secret, "exec", &self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= REMEMBERED {
            let ended = records.values().position(|record| matches!(*record.state.borrow(), ExecState::Ended { .. } | ExecState::Created));
            let Some(place) = ended else {
                return Err(EngineProblem::internal("too many commands are running in containers"));
            };
            records.shift_remove_index(place);
        }
        let size = config.console_size.map(|[rows, columns]| Terminal { rows, columns }).filter(|size| size.rows > 0 && size.columns > 0);
        let record = ExecRecord {
            id: id.clone(),
            container: container.id.clone(),
            node: container.node.name.clone(),
            command,
            config,
            state: watch::channel(ExecState::Created).0,
            screen: Mutex::new(Screen { size, resize: None }),
        };
        records.insert(id.clone(), Arc::new(record));
        Ok(id)
    }

    pub fn get(&self, id: &str) -> Result<Arc<ExecRecord>, EngineProblem> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(id).cloned().ok_or_else(|| EngineProblem::new(StatusCode::NOT_FOUND, format!("No such exec instance: {id}")))
    }
}
