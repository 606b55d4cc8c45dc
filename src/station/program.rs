//! A program beside the shell: an agent that brings its own hands. It has outputs of its own, and nobody types into it.

use std::fs::File;
use std::io::{self, PipeReader, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::bash::pidfd;
use super::confine::Confinement;

pub(super) struct Program {
    pub pid: u32,
    /// Readable when it has ended.
    life: OwnedFd,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
    /// Nobody can write to them any more.
    pub silent: [bool; 2],
    /// How it ended; the rest of its outputs is not told yet.
    pub code: Option<i32>,
}

impl Program {
    /// Has a shell at `shell` read `script` in `dir`. A script is no argument, for those must not be long.
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
                // What it signals as a group is neither the station nor the shell.
                nix::unistd::setsid()?;
                confinement.enter()
            })
        };
        // Reaped with all the others, by number.
        let pid = command.spawn()?.id();
        Ok(Self { pid, life: pidfd(pid)?, stdout, stderr, silent: [false; 2], code: None })
    }

    /// What there is to be waited for: both outputs and the end.
    pub fn fds(&self) -> [Option<BorrowedFd<'_>>; 3] {
        let [out, err] = self.silent;
        [(!out).then(|| self.stdout.as_fd()), (!err).then(|| self.stderr.as_fd()), self.code.is_none().then(|| self.life.as_fd())]
    }
}
