//! Messages between runner and shell host, as frames of [`chaosrun_base::frame`]. The payload of a frame is a command or output.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use chaosrun_base::frame::WireMessage;

/// Longest frame in either direction, in bytes. Longer commands are refused, and longer outputs are split.
pub const LONGEST: usize = 4 << 20;

/// Request of the runner to the shell host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellRequest {
    /// Runs a command, given as a text without zero bytes. Only one command runs at a time.
    Run(#[serde(skip)] Bytes),
    /// Ends the processes of the running command. The shell host replies with the message `Ended` of that command.
    Interrupt,
    /// Starts a program beside the shell; allowed once. The bytes are a script that another shell reads.
    Program(#[serde(skip)] Bytes),
}

/// Message of the shell host to the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellMessage {
    /// The shell is ready for commands.
    Ready,
    Stdout(#[serde(skip)] Bytes),
    Stderr(#[serde(skip)] Bytes),
    /// The command has ended with an exit code. `fresh` means that the shell ended too and was replaced.
    Ended {
        code: i32,
        fresh: bool,
    },
    /// The shell host could not start a shell. The text is the reason.
    Failed(String),
    /// Output of the program beside the shell.
    ProgramStdout(#[serde(skip)] Bytes),
    ProgramStderr(#[serde(skip)] Bytes),
    /// The program beside the shell has ended, and all its output was passed on. The exit code is 128 + signal if a signal ended the
    /// program.
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
