//! Main loop of the supervisor: one thread that polls two descriptors (the socket and a signalfd), without timers except a back-off.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{getppid, setsid};

use super::channel::{self, Stdio};
use super::process;
use super::trees::{Tree, Trees, childless};
use super::wire::{Report, SpawnFrame, SupervisorRequest};
use crate::folder;
use chaosrun_base::removal::RemovalLayer;

/// Shortest pause between two attempts to kill remaining processes, in milliseconds. A killed process usually ends within a millisecond.
const SHORTEST: u16 = 1;
/// Longest pause between two attempts to kill remaining processes, in milliseconds.
const LONGEST: u16 = 32;

/// Serves requests until the runner has ended, then kills all descendants and returns.
///
/// `runner` is the pid that must be the parent of this process. `folders` are the directories that the runner may create for the run.
///
/// # Errors
/// Returns an error if the kernel refuses a required feature (subreaper, signalfd, the socket).
pub fn serve(socket: UnixStream, runner: u32, folders: Vec<PathBuf>) -> io::Result<()> {
    process::rename(c"supervisor");
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    // Ctrl-C at the terminal is for the runner only. The call fails only for a group leader, which is separate already.
    let _ = setsid();
    // This signal is needed if the socket was inherited by a process that outlives the runner.
    if RemovalLayer::Kernel.works() {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    }
    let mut supervisor =
        Supervisor { socket, signals, trees: Trees::new(std::process::id()), folders, remove: Vec::new(), pause: SHORTEST };
    if getppid().as_raw() == i32::try_from(runner).unwrap_or(0) {
        supervisor.run();
    }
    if RemovalLayer::Supervisor.works() {
        supervisor.end();
    }
    Ok(())
}

struct Supervisor {
    socket: UnixStream,
    signals: SignalFd,
    trees: Trees,
    /// Possible directories of the run, in case the runner ended before it registered a directory.
    folders: Vec<PathBuf>,
    /// Directories to remove at the end, with their locks.
    remove: Vec<(PathBuf, Option<Flock<File>>)>,
    /// Milliseconds until the next attempt to kill remaining processes.
    pause: u16,
}

/// Error value: the runner has ended, or orders the supervisor to end.
struct Over;

impl Supervisor {
    fn run(&mut self) {
        while self.turn().is_ok() {}
    }

    fn turn(&mut self) -> Result<(), Over> {
        let timeout = if self.trees.has_doomed() { PollTimeout::from(self.pause) } else { PollTimeout::NONE };
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let ready = match poll(&mut fds, timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => return Ok(()),
            Err(_) => return Err(Over),
        };
        let asked = fds[0].any().unwrap_or(true);
        let signalled = fds[1].any().unwrap_or(true);
        if signalled {
            self.signals_came()?;
        }
        if asked {
            self.request()?;
        }
        if self.trees.has_doomed() && (ready == 0 || self.trees.roots_gone()) {
            self.pause = if ready == 0 { (self.pause * 2).min(LONGEST) } else { SHORTEST };
            self.trees.sweep();
        }
        for answer in self.trees.answers() {
            self.report(answer)?;
        }
        Ok(())
    }

    fn signals_came(&mut self) -> Result<(), Over> {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            if number == Signal::SIGTERM as i32 {
                return Err(Over);
            }
        }
        // The kernel merges pending signals of one kind, so one SIGCHLD stands for any number of children.
        while let Some((pid, code, signal)) = reap() {
            if let Some(tree) = self.trees.reaped(pid) {
                self.report(Report::Exited { tree, code, signal })?;
            }
        }
        Ok(())
    }

    fn request(&mut self) -> Result<(), Over> {
        // A broken frame means that the runner is corrupted. The supervisor treats this case like the end of the runner.
        let (request, fds) = channel::receive(&mut self.socket).ok().flatten().ok_or(Over)?;
        match request {
            SupervisorRequest::Spawn(frame) => self.spawn(&frame, fds),
            SupervisorRequest::Signal { request, tree, signal, reach } => {
                let errno = self.trees.signal(tree, signal, reach).err().map_or(0, |errno| errno as i32);
                self.report(Report::Done { request, errno })
            }
            SupervisorRequest::Kill { request, tree } => {
                self.trees.kill(request, tree);
                Ok(())
            }
            SupervisorRequest::KillScope { request, scope } => {
                self.trees.kill_scope(request, scope);
                Ok(())
            }
            SupervisorRequest::RemoveAtEnd(path) => {
                let path = PathBuf::from(OsStr::from_bytes(&path));
                // Other processes would remove an unlocked directory. The lock reserves the removal for this supervisor.
                let lock = File::open(&path).ok().and_then(|dir| Flock::lock(dir, FlockArg::LockSharedNonblock).ok());
                self.remove.push((path, lock));
                Ok(())
            }
        }
    }

    fn spawn(&mut self, frame: &SpawnFrame, fds: Vec<OwnedFd>) -> Result<(), Over> {
        let tree = frame.tree;
        let stdio: Stdio = fds.try_into().map_err(|_| Over)?;
        let (scope, with, linger, marker) = (frame.scope, frame.with, frame.linger, frame.marker.clone().into_bytes());
        if self.trees.is_closed(scope) {
            let message = "everything is being torn down".into();
            return self.report(Report::Failed { tree, errno: libc::ESHUTDOWN, message });
        }
        let report = match process::start(frame, stdio) {
            Ok(root) => {
                self.trees.insert(tree, Tree { scope, with, linger, root, marker, live: true });
                Report::Started { tree, pid: root }
            }
            Err((errno, message)) => Report::Failed { tree, errno, message },
        };
        self.report(report)
    }

    fn report(&mut self, report: Report) -> Result<(), Over> {
        channel::send(&mut self.socket, report).map_err(|_| Over)
    }

    /// Ends all descendants. A subreaper without children has no descendants.
    fn end(&mut self) {
        let mut pause = SHORTEST;
        loop {
            let killable = self.trees.kill_everything();
            while reap().is_some() {}
            if childless() {
                return self.remove_directories();
            }
            if !killable {
                // All remaining processes belong to other users (`sudo`), and waiting would not help.
                return self.remove_directories();
            }
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            // A failed wait only means that the next attempt comes earlier.
            if poll(&mut fds, PollTimeout::from(pause)) == Ok(0) {
                pause = (pause * 2).min(LONGEST);
            }
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
    }

    fn remove_directories(&mut self) {
        for (path, _lock) in self.remove.drain(..) {
            if path != Path::new("/") {
                // Usually the runner has removed the directory already.
                let _ = folder::remove(&path);
            }
        }
        for path in self.folders.drain(..).filter(|path| folder::is_ours(path)) {
            let _ = folder::remove(&path);
        }
    }
}

/// Reaps one ended child. Returns the pid, the exit code, and the number of the signal that ended the child, or 0 without a signal.
///
/// The function does not use `nix`, which treats an end by a real-time signal as an error and thus loses the child.
fn reap() -> Option<(u32, i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: waitpid(2) writes only the status.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match u32::try_from(pid) {
            Ok(0) => return None,
            Ok(pid) if libc::WIFSIGNALED(status) => return Some((pid, 0, libc::WTERMSIG(status))),
            Ok(pid) => return Some((pid, libc::WEXITSTATUS(status), 0)),
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return None,
        }
    }
}
