//! Burner: a program that keeps processors and memory of a node busy within the limits of the node, and runs short pieces of work there.
//!
//! The burner receives its load as lines of JSON on stdin and answers each line on stdout. It exits at the end of stdin. Name, arguments
//! and environment of the process do not reveal its purpose.

use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};

/// Period in which each thread is busy for its share of the time. Short compared with effects that users notice, and long compared with the
/// time slices of the kernel.
const ROUND: Duration = Duration::from_millis(20);

/// Longest missed processor time that a thread makes up for later. Limits how long the burner stays busy after other processes have
/// finished.
const DEBT: Duration = Duration::from_millis(500);

/// Size of one piece of allocated memory, in bytes.
const PIECE: usize = 4 << 20;

/// Request to the burner: one line of stdin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BurnerRequest {
    /// Settles the burner in the node; sent once if the program was copied to the node. The burner removes the folder of the copy, and
    /// changes to the user of the first process in the pid namespace.
    Settle(PathBuf),
    /// Sets the load from now on: `cores` processors busy for `percent` of the time, and `memory` bytes. The burner replies when all memory
    /// is allocated.
    Load { cores: f64, percent: f64, memory: u64 },
    /// Uses this number of microseconds of processor time, as fast as possible.
    Work(u64),
}

/// Reply of the burner: one line of stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BurnerReply {
    Done,
    Worked { cpu_us: u64, wall_us: u64 },
}

/// Runs the burner until the end of stdin.
///
/// # Errors
/// Returns an error if a request cannot be parsed or carried out.
pub fn run() -> io::Result<()> {
    let mut load = Load::default();
    let mut out = io::stdout();
    for line in io::stdin().lock().lines() {
        let reply = match serde_json::from_str(&line?).map_err(io::Error::other)? {
            BurnerRequest::Settle(folder) => settle(&folder).map(|()| BurnerReply::Done),
            BurnerRequest::Load { cores, percent, memory } => {
                load.set(cores, percent, usize::try_from(memory).unwrap_or(usize::MAX));
                Ok(BurnerReply::Done)
            }
            BurnerRequest::Work(micros) => work(Duration::from_micros(micros)),
        }?;
        writeln!(out, "{}", serde_json::to_string(&reply).map_err(io::Error::other)?)?;
    }
    Ok(())
}

fn settle(folder: &Path) -> io::Result<()> {
    fs::remove_dir_all(folder)?;
    let status = fs::read_to_string("/proc/1/status")?;
    let id = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|ids| ids.split_ascii_whitespace().next()?.parse::<u32>().ok())
    };
    if let (Some(user), Some(group)) = (id("Uid:"), id("Gid:"))
        && Uid::effective().is_root()
        && user != 0
    {
        setgroups(&[])?;
        setgid(Gid::from_raw(group))?;
        setuid(Uid::from_raw(user))?;
    }
    Ok(())
}

/// Load that the burner currently generates.
#[derive(Debug, Default)]
struct Load {
    memory: Vec<Vec<u8>>,
    busy: Arc<Busy>,
    threads: usize,
}

/// Busy share of the time of each thread, from 0 to 1.
#[derive(Debug, Default)]
struct Busy {
    shares: Mutex<Vec<f64>>,
    changed: Condvar,
}

impl Load {
    fn set(&mut self, cores: f64, percent: f64, memory: usize) {
        let shares = shares(cores, percent);
        for at in self.threads..shares.len() {
            let busy = Arc::clone(&self.busy);
            thread::spawn(move || busy.keep(at));
        }
        self.threads = self.threads.max(shares.len());
        *self.busy.lock() = shares;
        self.busy.changed.notify_all();
        self.hold(memory);
    }

    /// Allocates `bytes` bytes of memory in total and writes to each page, since the kernel provides a page only after a write.
    fn hold(&mut self, bytes: usize) {
        let (whole, rest) = (bytes / PIECE, bytes % PIECE);
        self.memory.retain(|piece| piece.len() == PIECE);
        self.memory.truncate(whole);
        while self.memory.len() < whole {
            self.memory.push(vec![1; PIECE]);
        }
        if rest > 0 {
            self.memory.push(vec![1; rest]);
        }
        black_box(&self.memory);
    }
}

/// Splits the load into the busy shares of threads. For example, 2.5 processors are two full threads and one thread that is busy for half
/// of the time.
fn shares(cores: f64, percent: f64) -> Vec<f64> {
    let (mut left, percent) = (cores.max(0.0), (percent / 100.0).clamp(0.0, 1.0));
    let mut shares = Vec::new();
    while left > 0.0 && percent > 0.0 {
        shares.push(left.min(1.0) * percent);
        left -= 1.0;
    }
    shares
}

impl Busy {
    fn lock(&self) -> MutexGuard<'_, Vec<f64>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the thread with the index `at` until the process ends.
    fn keep(&self, at: usize) {
        let share = |shares: &MutexGuard<'_, Vec<f64>>| shares.get(at).copied().unwrap_or_default();
        // The thread makes up later for time that other processes took.
        let (mut owed, mut until) = (Duration::ZERO, Instant::now());
        loop {
            let mut shares = self.lock();
            if share(&shares) <= 0.0 {
                let idle = |shares: &mut Vec<f64>| shares.get(at).is_none_or(|share| *share <= 0.0);
                shares = self.changed.wait_while(shares, idle).unwrap_or_else(PoisonError::into_inner);
                (owed, until) = (Duration::ZERO, Instant::now());
            }
            let share = share(&shares);
            drop(shares);
            let begin = Instant::now();
            owed = (owed + (begin.saturating_duration_since(until) + ROUND).mul_f64(share)).min(DEBT);
            until = begin + ROUND;
            owed = owed.saturating_sub(spin(owed, Some(ROUND)));
            let rest = until.saturating_duration_since(Instant::now());
            if owed.is_zero() && !rest.is_zero() {
                drop(self.changed.wait_timeout(self.lock(), rest));
            }
        }
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::MAX, Duration::from)
}

/// Uses the processor time `cpu`, within at most `limit` of wall-clock time. Returns the processor time used.
fn spin(cpu: Duration, limit: Option<Duration>) -> Duration {
    let (began, start) = (processor_time(), Instant::now());
    let mut value = 1_u64;
    loop {
        for _ in 0..2000 {
            value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        let used = processor_time().saturating_sub(began);
        if used >= cpu || limit.is_some_and(|limit| start.elapsed() >= limit) {
            return used;
        }
    }
}

fn work(cpu: Duration) -> io::Result<BurnerReply> {
    let start = Instant::now();
    let used = spin(cpu, None);
    let micros = |time: Duration| u64::try_from(time.as_micros()).map_err(io::Error::other);
    Ok(BurnerReply::Worked { cpu_us: micros(used)?, wall_us: micros(start.elapsed())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_shared_among_threads() {
        assert_eq!(shares(2.5, 50.0), [0.5, 0.5, 0.25]);
        assert_eq!(shares(1.0, 250.0), [1.0]);
        assert_eq!(shares(0.0, 100.0), [0.0; 0]);
        assert_eq!(shares(1.0, 0.0), [0.0; 0]);
    }

    #[test]
    fn memory_has_the_size_of_the_last_request() {
        let mut load = Load::default();
        for bytes in [0, PIECE + 5, 3 * PIECE, 7, PIECE] {
            load.hold(bytes);
            assert_eq!(load.memory.iter().map(Vec::len).sum::<usize>(), bytes);
        }
    }

    #[test]
    fn work_uses_the_requested_time() {
        let BurnerReply::Worked { cpu_us, wall_us } = work(Duration::from_millis(5)).unwrap() else { panic!() };
        assert!((5_000..50_000).contains(&cpu_us) && wall_us >= 5_000, "{cpu_us} {wall_us}");
    }
}
