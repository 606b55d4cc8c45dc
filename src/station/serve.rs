//! The loop: one thread, which hears orders, the shell and its end.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bash::{self, Bash, Outputs};
use super::confine::Confinement;
use super::program::Program;
use super::sieve::Sieve;
use super::wire::{Incoming, Order, Told};
use super::{Args, confine, door};
use crate::cluster::local::supervisor::family::{self, Process};

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// What jobs print between two commands is told with the next one: the last of it, at most this much of an output.
const LATE: usize = 64 * 1024;

/// How long a shell may hold on to a command that is to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// Of a program that there is not, as a shell says it.
const NOT_STARTED: i32 = 126;

/// Between two attempts to end it.
const ROUND: u16 = 20;

/// Serves until its stdin ends, then ends all that descends from it.
///
/// # Errors
/// When the kernel refuses what it stands on, or there is no shell.
pub fn serve(args: &Args) -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    if args.confined {
        confine::first_to_die();
    }
    // Who runs as the same user shall not look into it.
    nix::sys::prctl::set_dumpable(false)?;
    let opened = args.door.as_ref().map_or(Ok(()), |door| door::open(door, &args.listen));
    let started = opened.and_then(|()| Station::new(args));
    match started {
        Ok(mut station) => {
            tell(&Told::Ready)?;
            let served = station.run();
            Station::end();
            served
        }
        Err(error) => {
            tell(&Told::Failed(error.to_string()))?;
            Err(error)
        }
    }
}

fn tell(told: &Told) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(&told.encode())?;
    stdout.flush()
}

struct Station {
    args: Args,
    outputs: Outputs,
    bash: Bash,
    orders: Incoming,
    /// The command that runs.
    present: Option<Present>,
    /// The shell was replaced while no command ran.
    replaced: bool,
    /// The last command was ended: what the shell has to say of that is not the next one's.
    hushed: bool,
    /// Where a shell was that had to be killed.
    left_in: Option<PathBuf>,
    late: [Late; 2],
    program: Option<Program>,
}

struct Present {
    began: Began,
    /// When it was told to end, and how often it was tried.
    ending: Option<(Instant, u32)>,
    stderr: Sieve,
}

/// What jobs print while no command runs.
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

/// The orders have ended.
struct Over;

impl Station {
    fn new(args: &Args) -> io::Result<Self> {
        let mut outputs = Outputs::new()?;
        let confinement = Confinement { user: args.user, limited: args.confined };
        let bash = Bash::start(&args.shell, &bash::home(), confinement, &mut outputs)?;
        let (orders, late) = (Incoming::default(), <[Late; 2]>::default());
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
        let beside = self.program.as_ref().map_or([None; 3], Program::fds);
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
        while let Some(order) = self.orders.next(Order::decode)? {
            match order {
                Order::Run(text) => self.begin(&text)?,
                Order::Interrupt => self.interrupt()?,
                Order::Program(script) => self.begin_program(&script)?,
            }
        }
        Ok(Ok(()))
    }

    fn begin_program(&mut self, script: &[u8]) -> io::Result<()> {
        let confinement = Confinement { user: self.args.user, limited: self.args.confined };
        match Program::start(&self.args.shell, &bash::home(), script, confinement) {
            Ok(program) => self.program = Some(program),
            Err(error) => {
                tell(&Told::ProgramStderr(format!("it cannot be started: {error}\n").into_bytes()))?;
                tell(&Told::ProgramEnded(NOT_STARTED))?;
            }
        }
        Ok(())
    }

    /// Reads what the program beside has printed, where there is something.
    fn heard(&mut self, ready: [bool; 2]) -> io::Result<()> {
        let Some(program) = &mut self.program else { return Ok(()) };
        if ready[0] {
            let bytes = piece(&mut program.stdout)?;
            program.silent[0] = bytes.is_empty();
            if !bytes.is_empty() {
                tell(&Told::ProgramStdout(bytes))?;
            }
        }
        if ready[1] {
            let bytes = piece(&mut program.stderr)?;
            program.silent[1] = bytes.is_empty();
            if !bytes.is_empty() {
                tell(&Told::ProgramStderr(bytes))?;
            }
        }
        Ok(())
    }

    /// Tells the end of the program, after all that it has printed by then. What it left behind may print on.
    fn concluded(&mut self) -> io::Result<()> {
        let Some(program) = &mut self.program else { return Ok(()) };
        let Some(code) = program.code else { return Ok(()) };
        for (bytes, told) in [
            (bash::present(&mut program.stdout)?, Told::ProgramStdout as fn(Vec<u8>) -> Told),
            (bash::present(&mut program.stderr)?, Told::ProgramStderr),
        ] {
            if !bytes.is_empty() {
                tell(&told(bytes))?;
            }
        }
        self.program = None;
        tell(&Told::ProgramEnded(code))
    }

    fn begin(&mut self, text: &[u8]) -> io::Result<()> {
        // What jobs have printed by now is no part of it, and comes first.
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
            // It has ended in the meantime, as the runner was told.
            return Ok(());
        }
        self.drain()?;
        if let Some(present) = &mut self.present {
            present.ending = Some((Instant::now(), 0));
        }
        self.press()
    }

    /// One more attempt to end the command. A shell takes a SIGINT for its own when nothing runs below it, or when what runs dies of
    /// it too: so both are tried in turns, until one of them meets the shell at the right moment.
    fn press(&mut self) -> io::Result<()> {
        let Some(present) = &mut self.present else { return Ok(()) };
        let Some((since, round)) = &mut present.ending else { return Ok(()) };
        let stubborn = since.elapsed() > PATIENCE;
        let hard = *round % 3 > 0 || stubborn;
        *round += 1;
        let again = *round % 10 == 0;
        // What cannot be signalled has gone, or is gone at the next look.
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
            return if bytes.is_empty() { Ok(()) } else { tell(&Told::Stdout(bytes.to_vec())) };
        }
        if bytes.is_empty() || present.ending.is_some() {
            // The last words of what is killed are the shell's complaints.
            return Ok(());
        }
        let passed = present.stderr.pass(bytes);
        if passed.is_empty() { Ok(()) } else { tell(&Told::Stderr(passed)) }
    }

    /// What both outputs hold now.
    fn drain(&mut self) -> io::Result<()> {
        let bytes = bash::present(&mut self.outputs.stdout)?;
        self.printed(0, &bytes)?;
        let bytes = bash::present(&mut self.outputs.stderr)?;
        self.printed(1, &bytes)
    }

    /// The command is over. `fresh`: the shell was, and has been replaced.
    fn ended(&mut self, code: i32, fresh: bool) -> io::Result<()> {
        self.drain()?;
        let Some(mut present) = self.present.take() else { return Ok(()) };
        let rest = present.stderr.end(fresh);
        if !rest.is_empty() {
            tell(&Told::Stderr(rest))?;
        }
        self.hushed = present.ending.is_some();
        if self.hushed {
            // Those that it left behind were to end with it.
            present.began.kill_all(self.bash.pid);
        }
        let fresh = fresh || std::mem::take(&mut self.replaced);
        tell(&Told::Ended { code, fresh })
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
        // The command may have told its code before.
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

    /// Nobody gives orders any more: nothing stays.
    fn end() {
        let own = std::process::id();
        loop {
            let left: Vec<_> = family::descendants(own).into_iter().map(|one| one.process).collect();
            if left.is_empty() {
                return;
            }
            for process in left.iter().filter(|process| !process.ended()) {
                if kill(raw(process.pid), Signal::SIGKILL) == Err(Errno::EPERM) {
                    // Somebody else's: staying would help nobody.
                    return;
                }
            }
            while reaped().is_some() {}
            // The next look may come early.
            let _ = poll(&mut [], PollTimeout::from(ROUND));
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

/// One ended child and its code; 128 + signal when one ended it.
fn reaped() -> Option<(u32, i32)> {
    let mut status = 0;
    // SAFETY: waitpid(2) writes the status and nothing else.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    Some((pid, code))
}

/// The moment a command began: what was started later is told by it.
#[derive(Debug, Clone, Copy)]
struct Began {
    /// Clock ticks since boot, as in `/proc/PID/stat`.
    ticks: u64,
    /// The newest process of then: within one tick the numbers tell.
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

    fn before(&self, process: &Process) -> bool {
        process.started > self.ticks || (process.started == self.ticks && process.pid > self.last)
    }

    /// Ends what was started since. All of it is stopped first: what is ended one by one has time to start others.
    fn kill_all(&self, shell: u32) {
        let mut stopped = HashSet::new();
        loop {
            let mut more = false;
            for process in self.descendants(shell) {
                if stopped.insert(process) {
                    // Gone in between: so it starts nothing.
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

    /// What was started since, by the command or by what it started: not by jobs of before.
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
