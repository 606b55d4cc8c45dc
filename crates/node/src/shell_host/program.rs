//! Program beside the shell, for an agent that brings its own tools. The program has separate outputs and an empty stdin.

use std::fs::File;
use std::io::{self, PipeReader, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::bash::pidfd;
use super::confine::Confinement;

pub(super) struct AgentProgram {
    pub pid: u32,
    /// Process descriptor of the program. It is readable when the program has ended.
    life: OwnedFd,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
    /// True for stdout and for stderr if no process can write to that output any more.
    pub silent: [bool; 2],
    /// Exit code of the program; `None` while the program runs. It is set before the rest of the output is passed on.
    pub code: Option<i32>,
}

impl AgentProgram {
    /// Starts the shell `shell` in the directory `dir`, and passes the script `script` to the shell in a file descriptor. An argument would
    /// limit the length of the script.
    pub fn start(shell: &Path, dir: &Path, script: &[u8], confinement: Confinement) -> io::Result<Self> {
        let mut text = File::from(memfd_create("script", MFdFlags::MFD_CLOEXEC)?);
        text.write_all(script)?;
        text.rewind()?;
        let ((stdout, out), (stderr, err)) = (io::pipe()?, io::pipe()?);
        let mut command = Command::new(shell);
        command.args(["--norc", "--noprofile"]).current_dir(dir);
        command.env_remove("LD_LIBRARY_PATH").env("PWD", dir);
        command.stdin(text).stdout(out).stderr(err);
        // SAFETY: only system calls are made between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // Signals to the process group of the program must reach neither this process nor the shell.
                nix::unistd::setsid()?;
                confinement.enter()
            })
        };
        // The process is reaped by its pid, together with all other children.
        let pid = command.spawn()?.id();
        Ok(Self { pid, life: pidfd(pid)?, stdout, stderr, silent: [false; 2], code: None })
    }

    /// Returns the descriptors to poll: stdout, stderr, and the end of the process.
    pub fn fds(&self) -> [Option<BorrowedFd<'_>>; 3] {
        let [out, err] = self.silent;
        [(!out).then(|| self.stdout.as_fd()), (!err).then(|| self.stderr.as_fd()), self.code.is_none().then(|| self.life.as_fd())]
    }
}
