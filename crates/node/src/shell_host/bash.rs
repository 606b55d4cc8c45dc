//! Shell of an agent: an interactive bash without a terminal, to which commands are passed one after the other.
//!
//! The shell is interactive, because only then does SIGINT end the command and not the shell. Each command is one line, passed to `eval` as
//! one word, so that a syntax error ends with the command. The next line writes the exit code to a descriptor that the command itself does
//! not have.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::confine::Confinement;

/// Number of the descriptor for exit codes. Programs do not use this number by chance.
const STATUS: i32 = 250;

/// Longest time until a newly started shell accepts commands.
const STARTED: Duration = Duration::from_secs(30);

/// First commands of a shell, with settings for a shell without a user at a terminal.
const SETTLE: &str = "PS1= PS2=; unset HISTFILE PROMPT_COMMAND; set +H +o history; shopt -u checkwinsize\n";

/// Read ends of the pipes for stdout and stderr. They outlive a shell, since background jobs of the shell outlive the shell too.
pub(super) struct Outputs {
    pub stdout: PipeReader,
    pub stderr: PipeReader,
    into: [PipeWriter; 2],
}

impl Outputs {
    pub fn new() -> io::Result<Self> {
        let (stdout, out) = io::pipe()?;
        let (stderr, err) = io::pipe()?;
        Ok(Self { stdout, stderr, into: [out, err] })
    }
}

pub(super) struct Bash {
    pub pid: u32,
    /// Process descriptor of the shell. It is readable when the shell has ended.
    life: OwnedFd,
    input: File,
    /// Bytes of input that the pipe to the shell has not accepted yet.
    rest: Vec<u8>,
    status: PipeReader,
    /// True if no process can write to the status pipe any more.
    silent: bool,
    said: Vec<u8>,
    /// Number of the current or next command. Status lines with another number are outdated.
    number: u64,
    /// Exit code of the last command.
    code: i32,
}

impl Bash {
    /// Starts a shell in the directory `dir`, and waits until the shell accepts commands.
    pub fn start(program: &Path, dir: &Path, confinement: Confinement, outputs: &mut Outputs) -> io::Result<Self> {
        let (script, input) = io::pipe()?;
        let (status, told) = io::pipe()?;
        let [out, err] = [outputs.into[0].try_clone()?, outputs.into[1].try_clone()?];
        let mut command = Command::new(program);
        command.args(["--norc", "--noprofile", "--noediting", "-i"]).current_dir(dir);
        // The loader variable applies to this program only.
        command.env_remove("LD_LIBRARY_PATH").env("PWD", dir);
        command.stdin(script).stdout(out).stderr(err);
        let status_of = told.as_raw_fd();
        // SAFETY: only system calls are made between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if libc::dup2(status_of, STATUS) < 0 {
                    return Err(io::Error::last_os_error());
                }
                // Signals that the shell sends to its process group must not reach this program.
                nix::unistd::setsid()?;
                confinement.enter()
            })
        };
        // The process is reaped by its pid, together with all other children.
        let pid = command.spawn()?.id();
        let life = pidfd(pid)?;
        drop((command, told));
        let input = File::from(OwnedFd::from(input));
        fcntl(&input, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut bash = Self { pid, life, input, rest: Vec::new(), status, silent: false, said: Vec::new(), number: 0, code: 0 };
        bash.give(SETTLE.as_bytes())?;
        bash.ask("0")?;
        let timeout = PollTimeout::try_from(STARTED).unwrap_or(PollTimeout::MAX);
        let there = poll(&mut [PollFd::new(bash.status.as_fd(), PollFlags::POLLIN)], timeout)? > 0;
        if !there || bash.ended()?.is_none() {
            let _ = nix::sys::signal::kill(bash.id(), nix::sys::signal::Signal::SIGKILL);
            return Err(io::Error::other(format!("`{}` does not take commands", program.display())));
        }
        // Discards the warnings of a shell without a terminal.
        for output in [&mut outputs.stdout, &mut outputs.stderr] {
            present(output)?;
        }
        Ok(bash)
    }

    pub fn id(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.pid).unwrap_or(i32::MAX))
    }

    pub fn life(&self) -> BorrowedFd<'_> {
        self.life.as_fd()
    }

    /// Returns the current directory of the shell, in which a new shell starts after a replacement.
    pub fn dir(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/cwd", self.pid)).ok().filter(|dir| dir.is_dir())
    }

    pub fn run(&mut self, text: &[u8]) -> io::Result<()> {
        let mut line = Vec::with_capacity(text.len() + 128);
        if self.code != 0 {
            // Sets `$?` to the code of the previous command without a fork, since the limit of processes may be reached.
            write!(line, ". /dev/stdin <<<'return {}' || ", self.code)?;
        }
        line.extend_from_slice(b"eval '");
        for byte in text {
            match byte {
                b'\'' => line.extend_from_slice(b"'\\''"),
                byte => line.push(*byte),
            }
        }
        // A prompt set by the command would appear as output.
        writeln!(line, "' </dev/null {STATUS}>&-")?;
        self.give(&line)?;
        self.ask("$?")?;
        self.give(b"PS1= PS2=\n")
    }

    /// Makes the shell write the exit code `code` to the status pipe. A signal for the command may interrupt the write, which is then
    /// requested again.
    pub fn ask(&mut self, code: &str) -> io::Result<()> {
        let line = format!("printf '%s %s\\n' {} \"{code}\" >&{STATUS}\n", self.number);
        self.give(line.as_bytes())
    }

    fn give(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        self.feed()
    }

    /// Returns true if the pipe has not accepted all input for the shell yet.
    pub fn hungry(&self) -> bool {
        !self.rest.is_empty()
    }

    pub fn feed(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.input.write(&self.rest) {
                Ok(written) => drop(self.rest.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The shell has ended. This program notices that separately.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.rest.clear(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    pub fn status(&self) -> Option<BorrowedFd<'_>> {
        (!self.silent).then(|| self.status.as_fd())
    }

    /// Reads the status pipe. Returns the exit code of the command if the code has arrived completely.
    pub fn ended(&mut self) -> io::Result<Option<i32>> {
        let mut buffer = [0; 64];
        let read = self.status.read(&mut buffer)?;
        self.silent = read == 0;
        self.said.extend_from_slice(&buffer[..read]);
        while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            let words = std::str::from_utf8(&line).ok().and_then(|line| line.trim().split_once(' '));
            let told = words.and_then(|(number, code)| Some((number.parse::<u64>().ok()?, code.parse::<i32>().ok()?)));
            if let Some((number, code)) = told
                && number == self.number
            {
                self.number += 1;
                self.code = code;
                return Ok(Some(code));
            }
        }
        Ok(None)
    }
}

pub(super) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers; the result is a new descriptor that we own.
    let fd = nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the descriptor was just opened and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
}

/// Reads the bytes that are currently in a pipe, without waiting for more.
pub(super) fn present(pipe: &mut PipeReader) -> io::Result<Vec<u8>> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: FIONREAD writes a number, and the descriptor is open.
    nix::errno::Errno::result(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut waiting) })?;
    let mut bytes = vec![0; usize::try_from(waiting).unwrap_or(0)];
    pipe.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Returns the directory in which the first shell starts.
pub(super) fn home() -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).unwrap_or_else(|| OsString::from("/"));
    PathBuf::from(home)
}
