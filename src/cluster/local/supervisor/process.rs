//! Starts one process.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::libc;
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Pid, getppid, setsid};

use super::MARKER;
use super::channel::Stdio;
use super::wire::SpawnFrame;
use crate::removal::Layer;

/// Forks and executes. The child leads its own session and group, and dies with this process.
///
/// # Errors
/// The system's error number and a message that names what could not be executed.
pub fn start(frame: SpawnFrame, stdio: Stdio) -> Result<u32, (i32, String)> {
    let program = OsString::from_vec(frame.program);
    let dir = OsString::from_vec(frame.dir);
    let [stdin, stdout, stderr] = stdio;
    let mut command = Command::new(&program);
    let mut argv = frame.argv.into_iter().map(OsString::from_vec);
    if let Some(name) = argv.next() {
        command.arg0(name);
    }
    command.args(argv).env_clear();
    command.envs(frame.env.into_iter().map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value))));
    command.env(MARKER, OsStr::from_bytes(&frame.marker));
    command.current_dir(&dir);
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let supervisor = Pid::this();
    let leashed = Layer::Kernel.works();
    // SAFETY: only async-signal-safe calls are made between fork and exec, and this process has one thread.
    unsafe { command.pre_exec(move || prepare(supervisor, leashed)) };
    let mut tries = 0;
    loop {
        match command.spawn() {
            Ok(child) => return Ok(child.id()),
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) && tries < BUSY_TRIES => {
                tries += 1;
                // Nothing to wait for can be named; the fork that holds the file ends within a millisecond.
                let _ = poll(&mut [], PollTimeout::from(1_u8));
            }
            Err(error) => return Err((error.raw_os_error().unwrap_or(libc::EIO), explain(&program, &dir, &error))),
        }
    }
}

/// A program that was just written is busy while some other process holds it open for writing, which a fork elsewhere
/// in the runner does until its exec.
const BUSY_TRIES: u32 = 50;

/// In the child, before it becomes the program.
fn prepare(supervisor: Pid, leashed: bool) -> io::Result<()> {
    setsid()?;
    if leashed {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    }
    // The supervisor may have died before the line above: nobody would send the signal then.
    if getppid() != supervisor {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // A terminal given as its stdio is its own: Ctrl-C reaches its group, and job control works.
    // SAFETY: isatty(3) and this ioctl take a descriptor and a number; it is open, as stdin always is.
    unsafe {
        if libc::isatty(libc::STDIN_FILENO) == 1 {
            libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0);
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// `ENOENT` has several causes; the one that it was is named.
fn explain(program: &OsStr, dir: &OsStr, error: &io::Error) -> String {
    let name = program.to_string_lossy();
    if !Path::new(dir).is_dir() {
        return format!("cannot run `{name}` in `{}`: no such directory", dir.to_string_lossy());
    }
    match error.raw_os_error() {
        Some(libc::ENOENT) if program.as_bytes().contains(&b'/') && Path::new(program).exists() => {
            format!("cannot run `{name}`: its interpreter does not exist")
        }
        Some(libc::ENOENT) if program.as_bytes().contains(&b'/') => format!("cannot run `{name}`: no such file"),
        Some(libc::ENOENT) => format!("cannot run `{name}`: no such program on the PATH"),
        Some(libc::EACCES) => format!("cannot run `{name}`: permission denied"),
        Some(libc::E2BIG) => format!("cannot run `{name}`: its arguments and environment are too long"),
        Some(libc::ENOEXEC) => format!("cannot run `{name}`: not a program this system can run"),
        _ => format!("cannot run `{name}`: {error}"),
    }
}

/// What this process is called by `ps`, at most 15 bytes.
pub fn rename(name: &CStr) {
    // Only a name: nothing depends on it.
    let _ = nix::sys::prctl::set_name(name);
}
