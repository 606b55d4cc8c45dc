//! Messages between runner and supervisor, sent as frames of [`chaosrun_base::frame`].
//!
//! Arguments and environments are bytes, not text, so they are the payload behind the JSON of a frame.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use chaosrun_base::frame::WireMessage;

/// Message from the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorRequest {
    /// Starts a process. Comes with three descriptors: stdin, stdout, stderr. Answered by `Started` or `Failed`, later `Exited`.
    Spawn(SpawnFrame),
    /// Delivers a signal. Answered by `Done`.
    Signal { request: u64, tree: u64, signal: i32, reach: Reach },
    /// Sends SIGKILL until no process is left. Answered by `Done` after that.
    Kill { request: u64, tree: u64 },
    /// Kills all trees of a scope at once, and refuses later spawns in it.
    KillScope { request: u64, scope: u64 },
    /// Registers a directory, which the supervisor removes if the runner dies without having removed it.
    RemoveAtEnd(#[serde(skip)] Bytes),
}

/// Processes that a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Process group of the first process.
    Group,
    /// All processes of the tree, including daemonised ones, and of the trees that die with it.
    Tree,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFrame {
    /// Number chosen by the runner, never used twice.
    pub tree: u64,
    /// Scope, such as a trial, whose trees are killed together at the end.
    pub scope: u64,
    /// Tree with which this one dies, for a command inside a node; 0 means none.
    pub with: u64,
    /// True if processes left behind by the first process may continue to run after its exit.
    pub linger: bool,
    /// Value of [`super::MARKER`] in the environment.
    pub marker: String,
    /// Number of arguments in `words`.
    pub arguments: usize,
    /// Program, its directory, the arguments (the first is only the name of the process), then alternating names and values of the
    /// environment. They are separated by zero bytes.
    #[serde(skip)]
    pub words: Bytes,
}

/// Message from the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Started {
        tree: u64,
        pid: u32,
    },
    Failed {
        tree: u64,
        errno: i32,
        message: String,
    },
    /// The first process of the tree was reaped. `signal` is 0 when it ended with `code`.
    Exited {
        tree: u64,
        code: i32,
        signal: i32,
    },
    /// Result of a request; `errno` is 0 on success.
    Done {
        request: u64,
        errno: i32,
    },
}

/// Requests may be 4 MiB long, twice the size that the kernel usually accepts as arguments and environment.
impl WireMessage for SupervisorRequest {
    fn payload(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::Spawn(spawn) => Some(&mut spawn.words),
            Self::RemoveAtEnd(path) => Some(path),
            Self::Signal { .. } | Self::Kill { .. } | Self::KillScope { .. } => None,
        }
    }
}

impl WireMessage for Report {}
