//! Start of one process by the supervisor.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::libc;
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Pid, getppid, setsid};

use super::channel::Stdio;
use super::wire::SpawnFrame;
use chaosrun_base::family::MARKER;
use chaosrun_base::removal::RemovalLayer;

/// Forks and executes a program. The child leads its own session and process group, and dies when the supervisor dies.
///
/// # Errors
/// Returns the error number of the system, and a message that names the file that could not be executed.
pub fn start(frame: &SpawnFrame, stdio: Stdio) -> Result<u32, (i32, String)> {
    let mut words = frame.words.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let (program, dir) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let [stdin, stdout, stderr] = stdio;
    let mut command = Command::new(program);
    let mut arguments = words.by_ref().take(frame.arguments);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env_clear();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        command.env(name, value);
    }
    command.env(MARKER, &frame.marker);
    command.current_dir(dir);
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let supervisor = Pid::this();
    let leashed = RemovalLayer::Kernel.works();
    // SAFETY: only async-signal-safe calls are made between fork and exec, and this process has one thread.
    unsafe { command.pre_exec(move || prepare(supervisor, leashed)) };
    let mut tries = 0;
    loop {
        match command.spawn() {
            Ok(child) => return Ok(child.id()),
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) && tries < BUSY_TRIES => {
                tries += 1;
                // The end of the other fork has no event, so this thread sleeps. The fork that holds the file open ends within a
                // millisecond.
                let _ = poll(&mut [], PollTimeout::from(1_u8));
            }
            Err(error) => return Err((error.raw_os_error().unwrap_or(libc::EIO), explain(program, dir, &error))),
        }
    }
}

/// Number of attempts while the kernel reports the program file as busy. A new file is busy as long as a process has it open for writing. A
/// concurrent fork of the runner inherits the open file until its own exec.
const BUSY_TRIES: u32 = 50;

/// Prepares the child process, after the fork and before the program is executed.
fn prepare(supervisor: Pid, leashed: bool) -> io::Result<()> {
    setsid()?;
    if leashed {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    }
    // The supervisor may have died before the signal was set, and the signal would never arrive.
    if getppid() != supervisor {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // A terminal given as stdio becomes the controlling terminal: Ctrl-C reaches its group, and job control works. SAFETY: isatty(3) and
    // this ioctl take a descriptor and a number; stdin is always open.
    unsafe {
        if libc::isatty(libc::STDIN_FILENO) == 1 {
            libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0);
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Returns an explanation of an error of a start. `ENOENT` has several causes, and the explanation names the actual cause.
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

/// Sets the name that `ps` shows for this process. The name has at most 15 bytes.
pub fn rename(name: &CStr) {
    // The name is only displayed, so an error is ignored.
    let _ = nix::sys::prctl::set_name(name);
}
