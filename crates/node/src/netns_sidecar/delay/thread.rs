//! Thread that delays packets. It is not a task of the runtime, because its timers must be exact.

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

use super::netlink::{PacketQueue, PacketVerdict, Queued};
use super::packet;
use super::packet_action::{PacketAction, PacketActions, Passage};
use chaosrun_cluster::{LinkCounters, Shape};

/// Largest number of packets that the thread reads before it releases due packets.
const BATCH: usize = 64;

/// Effects on the packets with a mark: the shape, and the seed and name of the random streams.
#[derive(Debug, Clone)]
pub struct Shaped {
    pub mark: u32,
    pub shape: Shape,
    pub seed: u64,
    pub name: String,
}

/// State of one path in the delay thread.
#[derive(Debug)]
struct Entry {
    fate: PacketActions,
    of: (u64, String),
    counted: LinkCounters,
}

/// Delayed packet. The order is by release time, then by arrival.
#[derive(Debug, PartialEq, Eq)]
struct DelayedPacket {
    at: Duration,
    number: u64,
    mark: u32,
    id: u32,
    verdict: PacketVerdict,
    /// Bytes of a duplicate that is sent when the packet is released; `None` means no duplicate.
    copy: Option<Vec<u8>>,
}

impl Ord for DelayedPacket {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for DelayedPacket {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct Table {
    paths: HashMap<u32, Entry>,
    held: BinaryHeap<Reverse<DelayedPacket>>,
    number: u64,
    /// Callers that wait until all due packets are released.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    wake: EventFd,
    /// Start time of the clock that measures all times of the thread.
    began: Instant,
    /// Error that ended the thread; `None` while the thread runs.
    ended: Mutex<Option<String>>,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handle of the delay thread. The thread ends with the process.
#[derive(Debug)]
pub(crate) struct Delayer(Arc<Shared>);

impl Delayer {
    /// Binds the packet queue and starts the thread. Packets sent by the thread carry `mark`, so that they do not enter the queue again.
    pub fn start(mark: u32) -> io::Result<Self> {
        let queue = PacketQueue::open().map_err(|error| io::Error::other(format!("the kernel's packet queue: {error}")))?;
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

    /// Adds or updates paths. A path with the same seed and name keeps its random state and its counters.
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
                    let fate = PacketActions::new(path.shape, path.seed, &path.name);
                    table.paths.insert(path.mark, Entry { fate, of, counted: LinkCounters::default() });
                }
            }
        }
        drop(table);
        self.0.wake.write(1)?;
        Ok(())
    }

    /// Removes all paths except those with the given marks, and releases their delayed packets. Returns after the release.
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
            let release = |Reverse(mut held): Reverse<DelayedPacket>| {
                if !marks.contains(&held.mark) {
                    held.at = held.at.min(now);
                }
                Reverse(held)
            };
            table.held = held.into_iter().map(release).collect();
            table.waiting.push(done);
        }
        if self.0.wake.write(1).is_ok() {
            // The wait is limited. If the thread has ended, the kernel has removed the queue together with its packets.
            let _ = tokio::time::timeout(Duration::from_millis(100), told).await;
        }
    }

    /// Returns the shape and the counters of the path with this mark. Returns `None` if the thread has ended: packets then pass unchanged.
    pub fn get(&self, mark: u32) -> Option<(Shape, LinkCounters)> {
        if self.0.ended.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return None;
        }
        let table = self.0.table();
        table.paths.get(&mark).map(|entry| (entry.fate.shape, entry.counted))
    }
}

fn run(shared: &Shared, mut queue: PacketQueue, raw: &Socket) -> io::Result<()> {
    // Removes the default timer slack of 50 microseconds.
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

/// Reads newly queued packets once and releases the packets that are due.
fn turn(shared: &Shared, queue: &mut PacketQueue, raw: &Socket) -> io::Result<()> {
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
        // A duplicate that cannot be sent counts as lost.
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
        let mut held =
            DelayedPacket { at: now, number: self.number, mark: queued.mark, id: queued.id, verdict: PacketVerdict::Accept, copy: None };
        // Packets of a removed path pass unchanged.
        if let Some(entry) = self.paths.get_mut(&queued.mark) {
            entry.meets(queued.bytes, now, &mut held, out);
        }
        self.held.push(Reverse(held));
    }
}

impl Entry {
    fn meets(&mut self, bytes: &[u8], now: Duration, held: &mut DelayedPacket, out: &mut Vec<Vec<u8>>) {
        let length = packet::length(bytes);
        let counted = &mut self.counted;
        counted.packets += 1;
        counted.bytes += length as u64;
        match self.fate.decide(now, length, packet::segment(bytes).as_ref()) {
            PacketAction::Lost => {
                counted.dropped += 1;
                held.verdict = PacketVerdict::Drop;
            }
            PacketAction::Reset => {
                if let Some([receiver, sender]) = packet::resets(bytes) {
                    counted.reset += 1;
                    held.verdict = PacketVerdict::Replace(receiver);
                    out.push(sender);
                }
            }
            PacketAction::Passes(Passage { at, twice, flipped, late }) => {
                counted.delayed += u64::from(at > now);
                counted.reordered += u64::from(late);
                held.at = at;
                let whole = length == bytes.len();
                if let Some(random) = flipped.filter(|_| whole) {
                    let mut corrupt = bytes.to_vec();
                    packet::flip(&mut corrupt, random);
                    counted.corrupted += 1;
                    held.verdict = PacketVerdict::Replace(corrupt);
                }
                if twice && whole {
                    counted.duplicated += 1;
                    held.copy = Some(match &held.verdict {
                        PacketVerdict::Replace(corrupt) => corrupt.clone(),
                        _ => bytes.to_vec(),
                    });
                }
            }
        }
    }
}
