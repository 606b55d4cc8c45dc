//! The thread that holds packets back. Of its own, and not of the runtime: its timers are exact.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;

use super::fate::{Decision, Fate, Passage};
use super::netlink::{Queue, Queued, Verdict};
use super::packet;
use crate::cluster::{LinkCounters, Shape};

/// Packets that are read before those that are due are let go.
const BATCH: usize = 64;

/// A path that is shaped: the packets with this mark.
#[derive(Debug, Clone)]
pub struct Shaped {
    pub mark: u32,
    pub shape: Shape,
    pub seed: u64,
    pub name: String,
}

/// Of one path.
#[derive(Debug)]
struct Entry {
    fate: Fate,
    of: (u64, String),
    counted: LinkCounters,
}

/// A packet that is held back; ordered by its time, then as it came.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    at: Duration,
    number: u64,
    mark: u32,
    id: u32,
    verdict: Verdict,
    /// Comes in once more.
    copy: Option<Vec<u8>>,
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct Table {
    paths: HashMap<u32, Entry>,
    held: BinaryHeap<Reverse<Held>>,
    number: u64,
    /// Told when all that was due is on its way.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    wake: EventFd,
    /// Its times count from here.
    began: Instant,
    /// What the thread ended by.
    ended: Mutex<Option<String>>,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, seen from outside. It ends with the process.
#[derive(Debug)]
pub struct Delayer(Arc<Shared>);

impl Delayer {
    /// Binds the queue. `mark` is on the packets that we send ourselves, so that they do not come here again.
    pub fn start(mark: u32) -> io::Result<Self> {
        let queue = Queue::open().map_err(|error| io::Error::other(format!("the kernel's packet queue: {error}")))?;
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW)))?;
        raw.set_mark(mark)?;
        raw.set_nonblocking(true)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared { table: Mutex::default(), wake, began: Instant::now(), ended: Mutex::default() });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("queue".into()).spawn(move || {
            let why = run(&theirs, queue, &raw).err().map_or_else(String::new, |error| error.to_string());
            *theirs.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        })?;
        Ok(Self(shared))
    }

    /// Makes these known beside those before; who is known by the same seed and name goes on where it is.
    pub fn add(&self, paths: &[Shaped]) -> io::Result<()> {
        if let Some(why) = &*self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(io::Error::other(format!("the kernel's packet queue: {why}")));
        }
        let mut table = self.0.table();
        for path in paths {
            let of = (path.seed, path.name.clone());
            match table.paths.get_mut(&path.mark).filter(|entry| entry.of == of) {
                Some(entry) => entry.fate.shape = path.shape,
                None => {
                    let fate = Fate::new(path.shape, path.seed, &path.name);
                    table.paths.insert(path.mark, Entry { fate, of, counted: LinkCounters::default() });
                }
            }
        }
        drop(table);
        self.0.wake.write(1)?;
        Ok(())
    }

    /// Forgets all paths but those of `marks`, and lets go at once of what it holds of the others. Returns when that is done.
    pub async fn retain(&self, marks: &[u32]) {
        let (done, told) = oneshot::channel();
        {
            let mut table = self.0.table();
            let known = |mark: &u32| marks.contains(mark);
            if table.paths.keys().all(known) && table.held.iter().all(|Reverse(held)| known(&held.mark)) {
                return;
            }
            table.paths.retain(|mark, _| marks.contains(mark));
            let now = self.0.began.elapsed();
            let held = std::mem::take(&mut table.held);
            let release = |Reverse(mut held): Reverse<Held>| {
                if !marks.contains(&held.mark) {
                    held.at = held.at.min(now);
                }
                Reverse(held)
            };
            table.held = held.into_iter().map(release).collect();
            table.waiting.push(done);
        }
        if self.0.wake.write(1).is_ok() {
            // The thread ends only when the kernel has taken its queue away, and what was in it with it.
            let _ = tokio::time::timeout(Duration::from_millis(100), told).await;
        }
    }

    /// What is done to the packets of a mark, and what was.
    pub fn get(&self, mark: u32) -> Option<(Shape, LinkCounters)> {
        let table = self.0.table();
        table.paths.get(&mark).map(|entry| (entry.fate.shape, entry.counted))
    }
}

fn run(shared: &Shared, mut queue: Queue, raw: &Socket) -> io::Result<()> {
    // Sleeps end when they should, and not fifty microseconds later.
    let _ = nix::sys::prctl::set_timerslack(1);
    loop {
        let due = {
            let table = shared.table();
            let due = table.held.peek().map(|Reverse(held)| held.at.saturating_sub(shared.began.elapsed()));
            due.map(TimeSpec::from)
        };
        let mut ready = [PollFd::new(queue.as_fd(), PollFlags::POLLIN), PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut ready, due, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if ready[1].any() == Some(true) {
            let _ = shared.wake.read();
        }
        turn(shared, &mut queue, raw)?;
    }
}

/// Takes in what has come, lets go of what is due.
fn turn(shared: &Shared, queue: &mut Queue, raw: &Socket) -> io::Result<()> {
    let mut out = Vec::new();
    let mut table = shared.table();
    let whole = table.paths.values().any(|entry| entry.fate.shape.duplicate > 0.0 || entry.fate.shape.corrupt > 0.0);
    queue.see_whole(whole)?;
    for _ in 0..BATCH {
        let table = &mut *table;
        if !queue.read(|queued| table.arrived(&queued, shared.began.elapsed(), &mut out))? {
            break;
        }
    }
    let now = shared.began.elapsed();
    while table.held.peek().is_some_and(|Reverse(held)| held.at <= now)
        && let Some(Reverse(held)) = table.held.pop()
    {
        queue.decide(held.id, &held.verdict);
        out.extend(held.copy);
        if queue.is_full() {
            queue.flush()?;
        }
    }
    let waiting = std::mem::take(&mut table.waiting);
    drop(table);
    queue.flush()?;
    for bytes in out {
        // A copy that finds no room is as good as lost.
        let to = packet::destination(&bytes).unwrap_or(Ipv4Addr::LOCALHOST);
        let _ = raw.send_to(&bytes, &SocketAddrV4::new(to, 0).into());
    }
    for done in waiting {
        let _ = done.send(());
    }
    Ok(())
}

impl Table {
    fn arrived(&mut self, queued: &Queued<'_>, now: Duration, out: &mut Vec<Vec<u8>>) {
        self.number += 1;
        let mut held = Held { at: now, number: self.number, mark: queued.mark, id: queued.id, verdict: Verdict::Accept, copy: None };
        // One that is forgotten lets everything pass.
        if let Some(entry) = self.paths.get_mut(&queued.mark) {
            entry.meets(queued.bytes, now, &mut held, out);
        }
        self.held.push(Reverse(held));
    }
}

impl Entry {
    fn meets(&mut self, bytes: &[u8], now: Duration, held: &mut Held, out: &mut Vec<Vec<u8>>) {
        let length = packet::length(bytes);
        let counted = &mut self.counted;
        counted.packets += 1;
        counted.bytes += length as u64;
        match self.fate.decide(now, length, packet::segment(bytes).as_ref()) {
            Decision::Lost => {
                counted.dropped += 1;
                held.verdict = Verdict::Drop;
            }
            Decision::Reset => {
                if let Some([receiver, sender]) = packet::resets(bytes) {
                    counted.reset += 1;
                    held.verdict = Verdict::Replace(receiver);
                    out.push(sender);
                }
            }
            Decision::Passes(Passage { at, twice, flipped, late }) => {
                counted.delayed += u64::from(at > now);
                counted.reordered += u64::from(late);
                held.at = at;
                let whole = length == bytes.len();
                if let Some(random) = flipped.filter(|_| whole) {
                    let mut corrupt = bytes.to_vec();
                    packet::flip(&mut corrupt, random);
                    counted.corrupted += 1;
                    held.verdict = Verdict::Replace(corrupt);
                }
                if twice && whole {
                    counted.duplicated += 1;
                    held.copy = Some(match &held.verdict {
                        Verdict::Replace(corrupt) => corrupt.clone(),
                        _ => bytes.to_vec(),
                    });
                }
            }
        }
    }
}
