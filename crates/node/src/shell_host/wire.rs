//! Messages between runner and shell host, as frames of [`chaosrun_base::frame`]. Commands and outputs are the payload of a frame.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use chaosrun_base::frame::WireMessage;

/// Longest frame in either direction, in bytes. Longer commands are refused, longer outputs are split.
pub const LONGEST: usize = 4 << 20;

/// Request from the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellRequest {
    /// Runs a command, a text without zero bytes. Only one command runs at a time.
    Run(#[serde(skip)] Bytes),
    /// Ends the processes of the running command. The reply is the `Ended` of that command.
    Interrupt,
    /// Starts a program beside the shell, once. The bytes are a script that another shell reads.
    Program(#[serde(skip)] Bytes),
}

/// Message from the shell host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellMessage {
    /// The shell is ready for commands.
    Ready,
    Stdout(#[serde(skip)] Bytes),
    Stderr(#[serde(skip)] Bytes),
    /// The command has ended. `fresh` means that the shell ended too and was replaced.
    Ended {
        code: i32,
        fresh: bool,
    },
    /// No shell could be started, for this reason.
    Failed(String),
    /// Output of the program beside the shell.
    ProgramStdout(#[serde(skip)] Bytes),
    ProgramStderr(#[serde(skip)] Bytes),
    /// The program has ended and its output was passed on. The code is 128 + signal for a signal.
    ProgramEnded(i32),
}

impl WireMessage for ShellRequest {
    const LONGEST: usize = LONGEST;

    fn payload(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::Run(bytes) | Self::Program(bytes) => Some(bytes),
            Self::Interrupt => None,
        }
    }
}

impl WireMessage for ShellMessage {
    const LONGEST: usize = LONGEST;

    fn payload(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::Stdout(bytes) | Self::Stderr(bytes) | Self::ProgramStdout(bytes) | Self::ProgramStderr(bytes) => Some(bytes),
            Self::Ready | Self::Ended { .. } | Self::Failed(_) | Self::ProgramEnded(_) => None,
        }
    }
}
