//! Messages between runner and supervisor, sent as frames of [`chaosrun_base::frame`].
//!
//! Arguments and environments are bytes, not text. They are therefore sent as the payload after the JSON of a frame.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use chaosrun_base::frame::WireMessage;

/// Message from the runner to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorRequest {
    /// Starts a process. The message carries three descriptors: stdin, stdout and stderr. The answer is `Started` or `Failed`; `Exited`
    /// follows later.
    Spawn(SpawnFrame),
    /// Sends a signal to processes of a tree. The answer is `Done`.
    Signal { request: u64, tree: u64, signal: i32, reach: Reach },
    /// Sends SIGKILL until no process of the tree is left. The answer `Done` follows after the last process.
    Kill { request: u64, tree: u64 },
    /// Kills all trees of a scope at once, and makes the scope refuse later spawns.
    KillScope { request: u64, scope: u64 },
    /// Registers a directory. The supervisor removes the directory if the runner dies before it has removed the directory.
    RemoveAtEnd(#[serde(skip)] Bytes),
}

/// Set of processes of a tree that a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Process group of the first process of the tree.
    Group,
    /// All processes of the tree, including daemons, and of the trees that die with it.
    Tree,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFrame {
    /// Number of the process tree, chosen by the runner and never used twice.
    pub tree: u64,
    /// Number of the scope. A scope, such as a trial, is a set of trees that are killed together.
    pub scope: u64,
    /// Number of the tree with which the new tree dies, for a command inside a node; 0 means no other tree.
    pub with: u64,
    /// True if descendants of the first process may continue to run after its exit.
    pub linger: bool,
    /// Value of the environment variable [`super::MARKER`] of the process.
    pub marker: String,
    /// Number of arguments in `words`.
    pub arguments: usize,
    /// Program, its working directory, the arguments (the first is only the name of the process), then alternating names and values of the
    /// environment. All are separated by zero bytes.
    #[serde(skip)]
    pub words: Bytes,
}

/// Message from the supervisor to the runner.
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
    /// The first process of the tree was reaped. `signal` is 0 if the process ended with exit code `code`.
    Exited {
        tree: u64,
        code: i32,
        signal: i32,
    },
    /// Result of the request with number `request`; `errno` is 0 on success.
    Done {
        request: u64,
        errno: i32,
    },
}

/// Requests may be 4 MiB long, twice the size of arguments and environment that the kernel usually accepts.
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
