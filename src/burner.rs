//! What keeps a node's processors and memory busy, as a process in the node's own limits, and does short pieces of work there.
//!
//! It is told what to be by lines of JSON on its stdin and answers each on its stdout; it ends when its stdin does. Nothing in
//! its name, arguments or environment says what it is for.

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

/// In so long each thread is busy for its share: short against what users notice, long against what the kernel hands out.
const ROUND: Duration = Duration::from_millis(20);

/// No more than so much is made up for: not to be busy alone long after others have ended.
const DEBT: Duration = Duration::from_millis(500);

/// Memory is taken in pieces of so many bytes.
const PIECE: usize = 4 << 20;

/// A line of stdin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Once, when this program was brought here for that: removes the folder it came in, and becomes the user that the first
    /// process of its pid namespace is.
    Settle(PathBuf),
    /// From now on; answered when all the memory is held.
    Load { cores: f64, percent: f64, memory: u64 },
    /// So many microseconds of a processor, at once.
    Work(u64),
}

/// A line of stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Worked { cpu_us: u64, wall_us: u64 },
}

/// Runs until stdin ends.
///
/// # Errors
/// When what it is told makes no sense, or cannot be done.
pub fn run() -> io::Result<()> {
    let mut load = Load::default();
    let mut out = io::stdout();
    for line in io::stdin().lock().lines() {
        let reply = match serde_json::from_str(&line?).map_err(io::Error::other)? {
            Order::Settle(folder) => settle(&folder).map(|()| Reply::Done),
            Order::Load { cores, percent, memory } => {
                load.set(cores, percent, usize::try_from(memory).unwrap_or(usize::MAX));
                Ok(Reply::Done)
            }
            Order::Work(micros) => work(Duration::from_micros(micros)),
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

/// What is held and done now.
#[derive(Debug, Default)]
struct Load {
    memory: Vec<Vec<u8>>,
    busy: Arc<Busy>,
    threads: usize,
}

/// Of each thread, the part of the time that it is busy.
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

    /// Each byte is written: memory that was only asked for is nobody's yet.
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

/// Two and a half processors are two threads and one that is busy for half as long.
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

    /// One thread, until the process ends.
    fn keep(&self, at: usize) {
        let share = |shares: &MutexGuard<'_, Vec<f64>>| shares.get(at).copied().unwrap_or_default();
        // What others kept it from using it makes up for.
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

/// Uses the processor for so long, but no longer than `limit` by the clock on the wall.
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

fn work(cpu: Duration) -> io::Result<Reply> {
    let start = Instant::now();
    let used = spin(cpu, None);
    let micros = |time: Duration| u64::try_from(time.as_micros()).map_err(io::Error::other);
    Ok(Reply::Worked { cpu_us: micros(used)?, wall_us: micros(start.elapsed())? })
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
    fn memory_is_as_large_as_it_was_said_last() {
        let mut load = Load::default();
        for bytes in [0, PIECE + 5, 3 * PIECE, 7, PIECE] {
            load.hold(bytes);
            assert_eq!(load.memory.iter().map(Vec::len).sum::<usize>(), bytes);
        }
    }

    #[test]
    fn work_uses_what_it_was_told_to() {
        let Reply::Worked { cpu_us, wall_us } = work(Duration::from_millis(5)).unwrap() else { panic!() };
        assert!((5_000..50_000).contains(&cpu_us) && wall_us >= 5_000, "{cpu_us} {wall_us}");
    }
}
