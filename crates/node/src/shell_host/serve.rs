//! Main loop of the shell host: one thread that handles requests, the output of the shell and the end of the shell.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::bash::{self, Bash, Outputs};
use super::confine::Confinement;
use super::program::AgentProgram;
use super::sieve::Sieve;
use super::wire::{ShellMessage, ShellRequest};
use super::{Args, confine, port_forwarder};
use chaosrun_base::family;
use chaosrun_base::family::ProcessStat;
use chaosrun_base::frame;
use chaosrun_base::frame::Reader;

/// Largest number of bytes that one read returns.
const PIECE: usize = 64 * 1024;

/// Largest number of stored bytes, per output, that jobs print between two commands. Only the last bytes are stored. The next command
/// passes them on to the runner.
const LATE: usize = 64 * 1024;

/// Longest time that an interrupted command may continue. After this time, the shell host kills the shell.
const PATIENCE: Duration = Duration::from_secs(3);

/// Exit code for a program that cannot be started, as in shells.
const NOT_STARTED: i32 = 126;

/// Time in milliseconds between two attempts to end a command.
const ROUND: u16 = 20;

/// Handles requests until the end of stdin, then kills all descendants.
///
/// # Errors
/// Returns an error if the kernel refuses a needed feature, or if the shell cannot be started.
pub fn serve(args: &Args) -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    if args.confined {
        confine::first_to_die();
    }
    // Processes of the same user must not inspect this one.
    nix::sys::prctl::set_dumpable(false)?;
    let opened = args.door.as_ref().map_or(Ok(()), |door| port_forwarder::open(door, &args.listen));
    let started = opened.and_then(|()| Station::new(args));
    match started {
        Ok(mut station) => {
            tell(ShellMessage::Ready)?;
            let served = station.run();
            Station::end();
            served
        }
        Err(error) => {
            tell(ShellMessage::Failed(error.to_string()))?;
            Err(error)
        }
    }
}

fn tell(told: ShellMessage) -> io::Result<()> {
    frame::send(&mut io::stdout().lock(), told)
}

struct Station {
    args: Args,
    outputs: Outputs,
    bash: Bash,
    orders: Reader<ShellRequest>,
    /// Command that is currently running; `None` between commands.
    present: Option<Present>,
    /// True if the shell was replaced while no command was running.
    replaced: bool,
    /// True if the last command was interrupted. The next command must not report messages of the shell about the interrupt.
    hushed: bool,
    /// Current directory of a shell that had to be killed. The new shell starts in this directory.
    left_in: Option<PathBuf>,
    late: [Late; 2],
    program: Option<AgentProgram>,
}

struct Present {
    began: Began,
    /// Time of the interrupt, and number of attempts since then to end the command. `None` if the command was not interrupted.
    ending: Option<(Instant, u32)>,
    stderr: Sieve,
}

/// Output of background jobs while no command runs.
#[derive(Default)]
struct Late {
    bytes: VecDeque<u8>,
    lost: u64,
}

impl Late {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(LATE);
        self.bytes.drain(..over);
        self.lost += over as u64;
    }

    fn told(&mut self) -> Vec<u8> {
        let lost = std::mem::take(&mut self.lost);
        let mut text = if lost > 0 { format!("[... {lost} bytes of jobs left out ...]\n").into_bytes() } else { Vec::new() };
        text.extend(self.bytes.drain(..));
        text
    }
}

/// Error value which means that no more requests follow.
struct Over;

impl Station {
    fn new(args: &Args) -> io::Result<Self> {
        let mut outputs = Outputs::new()?;
        let confinement = Confinement { user: args.user, limited: args.confined };
        let bash = Bash::start(&args.shell, &bash::home(), confinement, &mut outputs)?;
        let (orders, late) = (Reader::default(), <[Late; 2]>::default());
        let (present, left_in, program) = (None, None, None);
        Ok(Self { args: args.clone(), outputs, bash, orders, present, replaced: false, hushed: false, left_in, late, program })
    }

    fn run(&mut self) -> io::Result<()> {
        while let Ok(()) = self.turn()? {}
        Ok(())
    }

    fn turn(&mut self) -> io::Result<Result<(), Over>> {
        let ending = self.present.as_ref().is_some_and(|present| present.ending.is_some());
        let timeout = if ending { PollTimeout::from(ROUND) } else { PollTimeout::NONE };
        let stdin = io::stdin();
        let (none, quiet) = (PollFlags::empty(), PollFlags::POLLIN);
        let (status, heard) = self.bash.status().map_or((self.bash.life(), none), |status| (status, quiet));
        let beside = self.program.as_ref().map_or([None; 3], AgentProgram::fds);
        let mut fds = vec![
            PollFd::new(self.outputs.stdout.as_fd(), quiet),
            PollFd::new(self.outputs.stderr.as_fd(), quiet),
            PollFd::new(status, heard),
            PollFd::new(self.bash.life(), quiet),
            PollFd::new(stdin.as_fd(), quiet),
            PollFd::new(self.bash.input(), if self.bash.hungry() { PollFlags::POLLOUT } else { none }),
        ];
        fds.extend(beside.iter().flatten().map(|fd| PollFd::new(*fd, quiet)));
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ok(())),
            Err(error) => return Err(error.into()),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let [stdout, stderr, status, gone, order, hungry] = [(); 6].map(|()| ready.next().unwrap_or(false));
        let [out, err, _] = beside.map(|fd| fd.is_some() && ready.next().unwrap_or(false));
        if stdout {
            let bytes = piece(&mut self.outputs.stdout)?;
            self.printed(0, &bytes)?;
        }
        if stderr {
            let bytes = piece(&mut self.outputs.stderr)?;
            self.printed(1, &bytes)?;
        }
        if status
            && heard == quiet
            && let Some(code) = self.bash.ended()?
        {
            self.ended(code, false)?;
        }
        self.heard([out, err])?;
        // Orphans become children of this process.
        self.reap(gone)?;
        self.concluded()?;
        if hungry {
            self.bash.feed()?;
        }
        if ending {
            self.press()?;
        }
        if order { self.order() } else { Ok(Ok(())) }
    }

    fn order(&mut self) -> io::Result<Result<(), Over>> {
        if !self.orders.read(&mut io::stdin().lock())? {
            return Ok(Err(Over));
        }
        while let Some(order) = self.orders.take()? {
            match order {
                ShellRequest::Run(text) => self.begin(&text)?,
                ShellRequest::Interrupt => self.interrupt()?,
                ShellRequest::Program(script) => self.begin_program(&script)?,
            }
        }
        Ok(Ok(()))
    }

    fn begin_program(&mut self, script: &[u8]) -> io::Result<()> {
        let confinement = Confinement { user: self.args.user, limited: self.args.confined };
        match AgentProgram::start(&self.args.shell, &bash::home(), script, confinement) {
            Ok(program) => self.program = Some(program),
            Err(error) => {
                tell(ShellMessage::ProgramStderr(format!("it cannot be started: {error}\n").into_bytes().into()))?;
                tell(ShellMessage::ProgramEnded(NOT_STARTED))?;
            }
        }
        Ok(())
    }

    /// Reads the available output of the program beside the shell. `ready` states which of stdout and stderr are readable.
    fn heard(&mut self, ready: [bool; 2]) -> io::Result<()> {
        let Some(program) = &mut self.program else { return Ok(()) };
        if ready[0] {
            let bytes = piece(&mut program.stdout)?;
            program.silent[0] = bytes.is_empty();
            if !bytes.is_empty() {
                tell(ShellMessage::ProgramStdout(bytes.into()))?;
            }
        }
        if ready[1] {
            let bytes = piece(&mut program.stderr)?;
            program.silent[1] = bytes.is_empty();
            if !bytes.is_empty() {
                tell(ShellMessage::ProgramStderr(bytes.into()))?;
            }
        }
        Ok(())
    }

    /// Reports the end of the program after all output that the program has printed. Ignores output of processes that the program has left
    /// behind.
    fn concluded(&mut self) -> io::Result<()> {
        let Some(program) = &mut self.program else { return Ok(()) };
        let Some(code) = program.code else { return Ok(()) };
        for (bytes, told) in [
            (bash::present(&mut program.stdout)?, ShellMessage::ProgramStdout as fn(Bytes) -> ShellMessage),
            (bash::present(&mut program.stderr)?, ShellMessage::ProgramStderr),
        ] {
            if !bytes.is_empty() {
                tell(told(bytes.into()))?;
            }
        }
        self.program = None;
        tell(ShellMessage::ProgramEnded(code))
    }

    fn begin(&mut self, text: &[u8]) -> io::Result<()> {
        // Output that jobs have printed so far does not belong to the command and comes first.
        self.drain()?;
        self.present = Some(Present { began: Began::now(), ending: None, stderr: Sieve::default() });
        let [out, err] = &mut self.late;
        for (output, bytes) in [(0, out.told()), (1, err.told())] {
            self.printed(output, &bytes)?;
        }
        self.bash.run(text)
    }

    fn interrupt(&mut self) -> io::Result<()> {
        if self.present.as_ref().is_none_or(|present| present.ending.is_some()) {
            // The command has ended in the meantime, and the runner has received the message about the end.
            return Ok(());
        }
        self.drain()?;
        if let Some(present) = &mut self.present {
            present.ending = Some((Instant::now(), 0));
        }
        self.press()
    }

    /// Makes one more attempt to end the command. A shell handles SIGINT itself when no process runs below it, or when its child dies of
    /// SIGINT too. Attempts alternate between signals to the child and to the shell, until one reaches the shell at the right moment.
    fn press(&mut self) -> io::Result<()> {
        let Some(present) = &mut self.present else { return Ok(()) };
        let Some((since, round)) = &mut present.ending else { return Ok(()) };
        let stubborn = since.elapsed() > PATIENCE;
        let hard = *round % 3 > 0 || stubborn;
        *round += 1;
        let again = *round % 10 == 0;
        // A process that cannot be signalled has ended, or will be gone at the next attempt.
        if !hard {
            let _ = kill(self.bash.id(), Signal::SIGINT);
        }
        if hard {
            present.began.kill_all(self.bash.pid);
        } else {
            for process in present.began.descendants(self.bash.pid) {
                let _ = kill(process, Signal::SIGINT);
            }
        }
        if stubborn {
            self.left_in = self.left_in.take().or_else(|| self.bash.dir());
            let _ = kill(self.bash.id(), Signal::SIGKILL);
        } else if hard {
            let _ = kill(self.bash.id(), Signal::SIGINT);
        }
        if again {
            self.bash.ask("130")?;
        }
        Ok(())
    }

    fn printed(&mut self, output: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(present) = &mut self.present else {
            if output == 0 || !self.hushed {
                self.late[output].take(bytes);
            }
            return Ok(());
        };
        if output == 0 {
            return if bytes.is_empty() { Ok(()) } else { tell(ShellMessage::Stdout(Bytes::copy_from_slice(bytes))) };
        }
        if bytes.is_empty() || present.ending.is_some() {
            // Output after an interrupt consists of the shell's messages.
            return Ok(());
        }
        let passed = present.stderr.pass(bytes);
        if passed.is_empty() { Ok(()) } else { tell(ShellMessage::Stderr(passed.into())) }
    }

    /// Passes on all bytes that are currently in the pipes of stdout and stderr.
    fn drain(&mut self) -> io::Result<()> {
        let bytes = bash::present(&mut self.outputs.stdout)?;
        self.printed(0, &bytes)?;
        let bytes = bash::present(&mut self.outputs.stderr)?;
        self.printed(1, &bytes)
    }

    /// Reports the end of the command with its exit code. `fresh` means that the shell ended too and was replaced.
    fn ended(&mut self, code: i32, fresh: bool) -> io::Result<()> {
        self.drain()?;
        let Some(mut present) = self.present.take() else { return Ok(()) };
        let rest = present.stderr.end(fresh);
        if !rest.is_empty() {
            tell(ShellMessage::Stderr(rest.into()))?;
        }
        self.hushed = present.ending.is_some();
        if self.hushed {
            // Background processes of an interrupted command must end with it.
            present.began.kill_all(self.bash.pid);
        }
        let fresh = fresh || std::mem::take(&mut self.replaced);
        tell(ShellMessage::Ended { code, fresh })
    }

    fn reap(&mut self, gone: bool) -> io::Result<()> {
        let mut end = None;
        while let Some((pid, code)) = reaped() {
            if pid == self.bash.pid {
                end = Some(code);
            }
            if let Some(program) = self.program.as_mut().filter(|program| program.pid == pid) {
                program.code = Some(code);
            }
        }
        let Some(code) = end.or_else(|| gone.then_some(0)) else { return Ok(()) };
        // The command may have reported its code already.
        if self.bash.status().is_some()
            && let Some(code) = self.bash.ended()?
        {
            self.ended(code, false)?;
        }
        let dir = self.left_in.take().unwrap_or_else(bash::home);
        let confinement = Confinement { user: self.args.user, limited: self.args.confined };
        self.drain()?;
        self.bash = Bash::start(&self.args.shell, &dir, confinement, &mut self.outputs)?;
        if self.present.is_some() {
            return self.ended(code, true);
        }
        self.replaced = true;
        Ok(())
    }

    /// Kills all descendants of the shell host after the last request.
    fn end() {
        let own = std::process::id();
        // The shell is usually the only child. To find its descendants, or a child of another thread, the whole of `/proc` must be read.
        let mut known = family::children(own).filter(|children| !children.is_empty());
        loop {
            while reaped().is_some() {}
            // Descendants of a child that has ended are children of this process.
            if waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) == Err(Errno::ECHILD) {
                return;
            }
            let left = known.take().unwrap_or_else(|| {
                let living = family::descendants(own).into_iter().filter(|one| !one.process.ended());
                living.map(|one| one.process.pid).collect()
            });
            for pid in left {
                if kill(raw(pid), Signal::SIGKILL) == Err(Errno::EPERM) {
                    // The process belongs to another user, and waiting would not help.
                    return;
                }
            }
            // The wait may be shorter if a signal arrives.
            let _ = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        }
    }
}

fn piece(pipe: &mut io::PipeReader) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; PIECE];
    let read = pipe.read(&mut buffer)?;
    buffer.truncate(read);
    Ok(buffer)
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// Reaps one ended child. Returns the pid and the exit code, which is 128 + signal if a signal ended the child.
fn reaped() -> Option<(u32, i32)> {
    let mut status = 0;
    // SAFETY: waitpid(2) writes the status and nothing else.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    Some((pid, code))
}

/// Start of a command, used to recognise processes that were started later.
#[derive(Debug, Clone, Copy)]
struct Began {
    /// Start time of the command in clock ticks since boot, as in `/proc/PID/stat`.
    ticks: u64,
    /// Pid of the newest process at the start of the command. Pids distinguish processes that start within the same clock tick.
    last: u32,
}

impl Began {
    fn now() -> Self {
        let boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let ticks = boot.as_nanos() * u128::try_from(per_second).unwrap_or(100) / 1_000_000_000;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let last = load.split_ascii_whitespace().last().and_then(|last| last.parse().ok()).unwrap_or(0);
        Self { ticks: u64::try_from(ticks).unwrap_or(u64::MAX), last }
    }

    fn before(&self, process: &ProcessStat) -> bool {
        process.started > self.ticks || (process.started == self.ticks && process.pid > self.last)
    }

    /// Kills all processes that were started after the command. All of them are stopped first, so that none can start another process.
    fn kill_all(&self, shell: u32) {
        let mut stopped = HashSet::new();
        loop {
            let mut more = false;
            for process in self.descendants(shell) {
                if stopped.insert(process) {
                    // An error means that the process has ended in the meantime, so the process starts no others.
                    more |= kill(process, Signal::SIGSTOP).is_ok();
                }
            }
            if !more {
                break;
            }
        }
        for process in stopped {
            let _ = kill(process, Signal::SIGKILL);
        }
    }

    /// Returns the processes started by the command or its descendants, without those of earlier background jobs.
    fn descendants(&self, shell: u32) -> Vec<Pid> {
        let own = std::process::id();
        let mut ours = HashSet::from([own, shell]);
        let mut found = Vec::new();
        for one in family::descendants(own) {
            let process = one.process;
            if process.pid != shell && ours.contains(&process.parent) && self.before(&process) {
                ours.insert(process.pid);
                if !process.ended() {
                    found.push(raw(process.pid));
                }
            }
        }
        found
    }
}
