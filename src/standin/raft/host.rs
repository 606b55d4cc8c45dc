//! The host's thread: takes what is queued, steps the groups, writes one frame, goes on with what is then allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use raft::eraftpb::Snapshot;
use raft::{RawNode, StateRole};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{GroupConfig, HostConfig, Observer, Timing};
use super::group::{Group, GroupParts};
use super::handle::{Fate, Handle, Input, ProposeError, ReadError};
use super::link::{Network, NetworkConfig};
use super::snapshot::{self, Saved};
use super::store::{FIRST_INDEX, GroupStore};
use super::wal::{AppendError, Batch, RecoverError, Recovered, Wal, is_full};
use crate::standin::log::Log;

/// Inputs waiting for the thread; proposals beyond are `Dropped`.
const INBOX: usize = 16 << 10;
/// Inputs taken into one batch.
const TAKE: usize = 1024;

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`{}` is locked by another process", .0.display())]
    Locked(PathBuf),
    #[error("`{}`: {source}", dir.display())]
    Io { dir: PathBuf, source: io::Error },
    /// The log does not fit what is configured, or is damaged.
    #[error("{0}")]
    Log(String),
}

/// A running set of groups; see [`Host::start`].
pub struct Host;

impl Host {
    /// Recovers every group from disk, then starts the host's thread and links. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the directory cannot be used, is locked by another process, or holds a log that is damaged or not ours.
    pub fn start(config: HostConfig, groups: Vec<GroupConfig>) -> Result<Handle, StartError> {
        let HostConfig { id, dir, listener, peers, note, timing, log_limit, log, observer } = config;
        let io = |source| StartError::Io { dir: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(io)?;
        let lock = lock(&dir.join("LOCK")).map_err(io)?.ok_or_else(|| StartError::Locked(dir.clone()))?;
        let (mut wal, mut recovered) = Wal::open(&dir, id).map_err(|error| match error {
            RecoverError::Io(source) => io(source),
            other => StartError::Log(other.to_string()),
        })?;
        let mut snapshots = snapshot::load_all(&dir).map_err(io)?;
        let (events, _) = broadcast::channel(1024);
        let mut running = BTreeMap::new();
        let mut repair = Batch::default();
        for group in groups {
            let known = recovered.remove(&group.id).unwrap_or_default();
            let opening = Opening { host: id, timing, log: &log, events: &events };
            let saved = snapshots.remove(&group.id);
            let group = opening.open(group, known, saved, &mut repair).map_err(StartError::Log)?;
            running.insert(group.id, group);
        }
        if let Some(stray) = recovered.keys().chain(snapshots.keys()).next() {
            return Err(StartError::Log(format!("`{}` holds group {stray}, which is not configured", dir.display())));
        }
        if !repair.is_empty() {
            wal.append(&repair).map_err(|error| StartError::Log(error.to_string()))?;
        }

        let (inbox, incoming) = sync_channel(INBOX);
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let network = NetworkConfig {
            id,
            listener,
            peers: peers.clone(),
            note,
            inbox: inbox.clone(),
            cancel: cancel.clone(),
            tasks: tasks.clone(),
            observer: Arc::clone(&observer),
            log: log.clone(),
        };
        let network = Network::start(network).map_err(io)?;
        let (notes, noted) = watch::channel(BTreeMap::new());
        let status = Arc::new(running.iter().map(|(id, group)| (*id, group.watch())).collect());
        let (fate, fated) = watch::channel(Fate::Running);
        let full = Arc::new(AtomicBool::new(false));
        let saver = start_saver(dir.clone(), inbox.clone()).map_err(io)?;
        let worker = Worker {
            id,
            dir: dir.clone(),
            hosts: peers.len(),
            dirty: running.keys().copied().collect(),
            groups: running,
            incoming,
            wal,
            network,
            timing,
            next_tick: Instant::now() + timing.tick,
            connected: BTreeSet::new(),
            heard: BTreeSet::new(),
            notes,
            deferred: Vec::new(),
            checkpoint: Checkpoint { limit: log_limit, next: log_limit, queue: Vec::new(), saving: None, bytes: 0, running: false },
            saver,
            full: Arc::clone(&full),
            cancel: cancel.clone(),
            observer,
            log,
            _lock: lock,
        };
        let run = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| worker.run()));
            fate.send_replace(match outcome {
                Ok(End::Stopped) => Fate::Stopped,
                Ok(End::Failed(why)) => Fate::Failed(why),
                Err(_) => Fate::Failed("consensus panicked".to_owned()),
            });
        };
        thread::Builder::new().name(format!("raft-{id}")).spawn(run).map_err(io)?;
        let last = Arc::new(cancel.clone().drop_guard());
        Ok(Handle { id, inbox, status, notes: noted, events, fate: fated, full, cancel, tasks, _last: last })
    }
}

/// Takes the directory's lock, held until the file is closed; none when another process has it.
fn lock(path: &std::path::Path) -> io::Result<Option<Flock<File>>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

struct Opening<'a> {
    host: u64,
    timing: Timing,
    log: &'a Log,
    events: &'a broadcast::Sender<super::RoleChange>,
}

impl Opening<'_> {
    /// Puts a group together from its log and its newest snapshot.
    fn open(&self, config: GroupConfig, known: Recovered, saved: Option<Saved>, repair: &mut Batch) -> Result<Group, String> {
        let GroupConfig { id, peers, first_leader, mut machine } = config;
        let Recovered { mut hard, mut base, mut entries } = known;
        let peer = peers.iter().find(|(_, host)| **host == self.host).map(|(peer, _)| *peer);
        let peer = peer.ok_or_else(|| format!("group {id} has no peer on host {}", self.host))?;
        let newest = saved.as_ref().map_or(FIRST_INDEX, |saved| saved.index);
        if newest < base.0 {
            return Err(format!("the log of group {id} begins behind {}, but its newest snapshot is {newest}", base.0));
        }
        if let Some(saved) = saved {
            machine.restore(&saved.data).map_err(|why| format!("the snapshot of group {id}: {why}"))?;
            let matches = (saved.index, saved.term) == base || entries.iter().any(|e| (e.index, e.term) == (saved.index, saved.term));
            if matches {
                entries.retain(|entry| entry.index > saved.index);
            } else {
                // Received from the leader, and the process died before the log told so.
                entries.clear();
                if hard.term < saved.term {
                    (hard.term, hard.vote) = (saved.term, 0);
                }
                repair.base(id, saved.index, saved.term);
                repair.hard(id, &hard);
            }
            base = (saved.index, saved.term);
        }
        hard.commit = hard.commit.clamp(base.0, base.0 + entries.len() as u64);
        let store = GroupStore::new(peers.keys().copied().collect(), hard, base, entries);
        let config = raft::Config {
            id: peer,
            election_tick: self.timing.election_ticks,
            heartbeat_tick: self.timing.heartbeat_ticks,
            applied: base.0,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            max_committed_size_per_ready: 16 << 20,
            ..raft::Config::default()
        };
        let node = RawNode::new(&config, store, &self.log.consensus(peer, id)).map_err(|error| format!("group {id}: {error}"))?;
        Ok(Group::new(GroupParts { id, peers, first_leader, node, machine, applied: base, events: self.events.clone() }))
    }
}

/// Why the thread ends.
enum End {
    Stopped,
    /// The host cannot go on.
    Failed(String),
}

/// Compacting the log: one group's state after the other is saved, then the log begins anew.
struct Checkpoint {
    limit: u64,
    /// The size of the log at which the next one begins.
    next: u64,
    queue: Vec<u64>,
    saving: Option<u64>,
    /// Of all states saved so far.
    bytes: u64,
    running: bool,
}

struct Job {
    group: u64,
    saved: Saved,
}

/// Writes snapshots beside the host's thread: the state may be large, and heartbeats must not wait for it.
fn start_saver(dir: PathBuf, inbox: SyncSender<Input>) -> io::Result<SyncSender<Job>> {
    let (jobs, incoming) = sync_channel::<Job>(1);
    let work = move || {
        for Job { group, saved } in incoming {
            let outcome = snapshot::save(&dir, group, &saved).and_then(|()| snapshot::remove_older(&dir, group, saved.index));
            let Saved { index, term, data } = saved;
            let input = Input::SnapshotSaved { group, index, term, bytes: data.len() as u64, outcome };
            if inbox.send(input).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("raft-saver".to_owned()).spawn(work)?;
    Ok(jobs)
}

struct Worker {
    id: u64,
    dir: PathBuf,
    hosts: usize,
    groups: BTreeMap<u64, Group>,
    /// Groups that something happened to since they were last looked at.
    dirty: BTreeSet<u64>,
    incoming: Receiver<Input>,
    wal: Wal,
    network: Network,
    timing: Timing,
    next_tick: Instant,
    connected: BTreeSet<u64>,
    heard: BTreeSet<u64>,
    notes: watch::Sender<BTreeMap<u64, String>>,
    /// What came in while the disk was full, and must not be lost.
    deferred: Vec<Input>,
    checkpoint: Checkpoint,
    saver: SyncSender<Job>,
    full: Arc<AtomicBool>,
    cancel: CancellationToken,
    observer: Arc<dyn Observer>,
    log: Log,
    _lock: Flock<File>,
}

impl Worker {
    fn run(mut self) -> End {
        match self.serve() {
            Ok(end) | Err(end) => end,
        }
    }

    fn serve(&mut self) -> Result<End, End> {
        self.campaign_if_new();
        self.turn()?;
        while !self.cancel.is_cancelled() {
            for input in std::mem::take(&mut self.deferred) {
                self.take(input)?;
            }
            match self.incoming.recv_timeout(self.next_tick.saturating_duration_since(Instant::now())) {
                Ok(input) => {
                    self.take(input)?;
                    for _ in 1..TAKE {
                        let Ok(input) = self.incoming.try_recv() else { break };
                        self.take(input)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tick();
            self.turn()?;
            self.compact()?;
        }
        Ok(End::Stopped)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now < self.next_tick {
            return;
        }
        // A process that was stopped for a while gets one tick, not all it slept through: it must hear the others first.
        self.next_tick = (self.next_tick + self.timing.tick).max(now + self.timing.tick / 2);
        for (id, group) in &mut self.groups {
            group.node.tick();
            self.dirty.insert(*id);
        }
    }

    fn take(&mut self, input: Input) -> Result<(), End> {
        match input {
            Input::Propose { group, data, reply } => match self.group(group) {
                Some(group) => group.propose(data, reply),
                None => drop(reply.send(Err(ProposeError::Dropped))),
            },
            Input::Read { group, read } => match self.group(group) {
                Some(group) => group.read(read),
                None => read(Err(ReadError::Unavailable)),
            },
            Input::Peek { group, read } => match self.groups.get(&group) {
                Some(group) => read(Ok(&*group.machine)),
                None => read(Err(ReadError::Unavailable)),
            },
            Input::Transfer { group, to_host } => {
                if let Some(group) = self.group(group) {
                    group.transfer(to_host);
                }
            }
            Input::Step { group, message } => {
                if let Some(group) = self.group(group) {
                    group.step(*message);
                }
            }
            Input::Connected { host } => {
                self.connected.insert(host);
                self.campaign_if_new();
            }
            Input::Heard { host, note } => {
                self.heard.insert(host);
                self.notes.send_modify(|notes| drop(notes.insert(host, note)));
                self.campaign_if_new();
            }
            Input::Lost { host } => {
                self.connected.remove(&host);
                let lost: Vec<_> = self.groups.values().filter_map(|group| Some((group.id, group.peer_on(host)?))).collect();
                self.report_lost(lost);
            }
            Input::SnapshotSent { group, peer, arrived } => {
                if let Some(group) = self.group(group) {
                    group.snapshot_sent(peer, arrived);
                }
            }
            Input::SnapshotSaved { group, index, term, bytes, outcome } => self.saved(group, (index, term), bytes, outcome)?,
        }
        Ok(())
    }

    fn group(&mut self, id: u64) -> Option<&mut Group> {
        self.dirty.insert(id);
        self.groups.get_mut(&id)
    }

    fn report_lost(&mut self, lost: impl IntoIterator<Item = (u64, u64)>) {
        for (group, peer) in lost {
            if let Some(group) = self.group(group) {
                group.unreachable(peer);
            }
        }
    }

    /// In a new cluster nobody waits for an election time-out: the peer meant to lead first campaigns as soon as it
    /// can reach, and be reached by, a quorum.
    fn campaign_if_new(&mut self) {
        let reachable = self.connected.intersection(&self.heard).count() + 1;
        if reachable * 2 <= self.hosts {
            return;
        }
        for group in self.groups.values_mut().filter(|group| group.first_leader == self.id && group.is_new()) {
            if group.node.raft.state != StateRole::Follower {
                continue;
            }
            // Refused only where it cannot be won.
            let _ = group.node.campaign();
            self.dirty.insert(group.id);
        }
    }

    /// Works until no group has anything left to do.
    fn turn(&mut self) -> Result<(), End> {
        let mut touched = BTreeSet::new();
        loop {
            let mut batch = Batch::default();
            let mut must_sync = false;
            let mut readies = Vec::new();
            let dirty = std::mem::take(&mut self.dirty);
            for id in &dirty {
                let Some(group) = self.groups.get_mut(id) else { continue };
                group.issue_reads();
                if group.node.store().take_wanted() {
                    offer_snapshot(group);
                }
                if !group.node.has_ready() {
                    continue;
                }
                let mut ready = group.node.ready();
                group.send(&ready.take_messages(), &mut self.network);
                if !ready.snapshot().is_empty() {
                    let snapshot = ready.snapshot().clone();
                    self.receive_snapshot(*id, &snapshot)?;
                    batch.base(*id, snapshot.get_metadata().index, snapshot.get_metadata().term);
                }
                for entry in ready.entries() {
                    batch.entry(*id, entry);
                }
                if let Some(hard) = ready.hs() {
                    batch.hard(*id, hard);
                }
                must_sync |= ready.must_sync();
                readies.push((*id, ready));
            }
            touched.extend(dirty);
            // A leader's entries may be on their way while its own disk still writes them.
            let mut lost = self.network.flush();
            if readies.is_empty() {
                self.report_lost(lost);
                break;
            }
            if must_sync {
                self.persist(&mut batch)?;
            }
            for (id, ready) in readies {
                let Some(group) = self.groups.get_mut(&id) else { continue };
                group.hard_waits = !must_sync && (group.hard_waits || ready.hs().is_some());
                let began = Instant::now();
                let applied = group.finish(ready, &mut self.network);
                if applied > 0 {
                    self.observer.applied(began.elapsed(), applied);
                }
                self.dirty.insert(id);
            }
            lost.append(&mut self.network.flush());
            self.report_lost(lost);
        }
        for id in touched {
            if let Some(group) = self.groups.get(&id) {
                group.publish();
            }
        }
        self.dirty.clear();
        Ok(())
    }

    /// Writes a batch; while the disk is full, refuses work and tries again.
    fn persist(&mut self, batch: &mut Batch) -> Result<(), End> {
        for group in self.groups.values_mut().filter(|group| group.hard_waits) {
            batch.hard(group.id, group.node.store().hard());
        }
        loop {
            let began = Instant::now();
            match self.wal.append(batch) {
                Ok(bytes) => {
                    self.observer.appended(began.elapsed(), bytes);
                    if self.full.swap(false, Ordering::Relaxed) {
                        self.log.info("disk has room again, the raft log is written", &[]);
                    }
                    return Ok(());
                }
                Err(AppendError::Full) => self.wait_for_room()?,
                Err(AppendError::Broken(error)) => return Err(End::Failed(format!("the raft log cannot be written: {error}"))),
            }
        }
    }

    /// One tick of a host whose disk is full: it is deaf and mute to its peers, who elect other leaders.
    fn wait_for_room(&mut self) -> Result<(), End> {
        if !self.full.swap(true, Ordering::Relaxed) {
            self.log.error("disk is full, the raft log cannot be written", &[("dir", &self.dir.display())]);
            for group in self.groups.values_mut() {
                group.fail_proposals(ProposeError::Unknown);
                group.fail_reads(ReadError::Unavailable);
            }
        }
        let until = Instant::now() + self.timing.tick;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let Ok(input) = self.incoming.recv_timeout(left) else { break };
            match input {
                Input::Propose { reply, .. } => drop(reply.send(Err(ProposeError::DiskFull))),
                Input::Read { read, .. } => read(Err(ReadError::Unavailable)),
                Input::Step { .. } | Input::Transfer { .. } => {}
                // The groups are in the middle of a step: only what leaves them alone may be done now.
                Input::Peek { group, read } => match self.groups.get(&group) {
                    Some(group) => read(Ok(&*group.machine)),
                    None => read(Err(ReadError::Unavailable)),
                },
                other => self.deferred.push(other),
            }
        }
        if self.cancel.is_cancelled() { Err(End::Stopped) } else { Ok(()) }
    }

    fn receive_snapshot(&mut self, id: u64, received: &Snapshot) -> Result<(), End> {
        let meta = received.get_metadata();
        let saved = Saved { index: meta.index, term: meta.term, data: received.get_data().to_vec() };
        loop {
            match snapshot::save(&self.dir, id, &saved) {
                Ok(()) => break,
                Err(error) if is_full(&error) => self.wait_for_room()?,
                Err(error) => return Err(End::Failed(format!("a received snapshot cannot be written: {error}"))),
            }
        }
        self.log.info("received snapshot", &[("region_id", &id), ("snapshot_index", &meta.index), ("snapshot_term", &meta.term)]);
        match self.groups.get_mut(&id) {
            Some(group) => group.install(received).map_err(|why| End::Failed(format!("a received snapshot of group {id}: {why}"))),
            None => Ok(()),
        }
    }

    /// Drives the checkpoint one step: never more than one group's state is copied in a turn.
    fn compact(&mut self) -> Result<(), End> {
        let checkpoint = &mut self.checkpoint;
        if !checkpoint.running {
            if self.wal.bytes() < checkpoint.next {
                return Ok(());
            }
            checkpoint.running = true;
            checkpoint.bytes = 0;
            checkpoint.queue = self.groups.values().filter(|group| group.applied.0 > group.saved.0).map(|group| group.id).collect();
        }
        if checkpoint.saving.is_some() {
            return Ok(());
        }
        if let Some(group) = checkpoint.queue.pop().and_then(|id| self.groups.get(&id)) {
            let (index, term) = group.applied;
            checkpoint.saving = Some(group.id);
            let job = Job { group: group.id, saved: Saved { index, term, data: group.machine.snapshot() } };
            return self.saver.send(job).map_err(|_| End::Failed("the thread that saves snapshots died".to_owned()));
        }
        self.rotate()
    }

    fn saved(&mut self, id: u64, at: (u64, u64), bytes: u64, outcome: io::Result<()>) -> Result<(), End> {
        self.checkpoint.saving = None;
        match outcome {
            Ok(()) => {
                self.checkpoint.bytes += bytes;
                if let Some(group) = self.groups.get_mut(&id)
                    && group.saved.0 < at.0
                {
                    group.saved = at;
                }
            }
            Err(error) if is_full(&error) => self.put_off(),
            Err(error) => return Err(End::Failed(format!("a snapshot cannot be written: {error}"))),
        }
        Ok(())
    }

    /// No room to compact: the log goes on growing, and the next attempt is made when it has grown as much again.
    fn put_off(&mut self) {
        self.log.warn("no room to compact the raft log", &[("bytes", &self.wal.bytes())]);
        self.checkpoint.running = false;
        self.checkpoint.queue.clear();
        self.checkpoint.next = self.wal.bytes() + self.checkpoint.limit;
    }

    fn rotate(&mut self) -> Result<(), End> {
        let mut carry = Batch::default();
        for group in self.groups.values() {
            let store = group.node.store();
            carry.base(group.id, group.saved.0, group.saved.1);
            carry.hard(group.id, store.hard());
            for entry in store.above(group.saved.0) {
                carry.entry(group.id, entry);
            }
        }
        match self.wal.rotate(&carry) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                self.put_off();
                return Ok(());
            }
            Err(error) => return Err(End::Failed(format!("the raft log cannot be compacted: {error}"))),
        }
        let keep = self.checkpoint.limit / 8;
        for group in self.groups.values_mut() {
            let saved = group.saved.0;
            group.node.mut_store().compact(saved, keep);
            group.hard_waits = false;
            group.publish();
        }
        self.checkpoint.running = false;
        self.checkpoint.next = self.wal.bytes() + self.checkpoint.limit.max(self.checkpoint.bytes);
        self.log.info("compacted the raft log", &[("bytes", &self.wal.bytes()), ("state_bytes", &self.checkpoint.bytes)]);
        Ok(())
    }
}

/// Raft wants to send a snapshot: makes one of the machine's present state.
fn offer_snapshot(group: &mut Group) {
    let mut snapshot = Snapshot::default();
    snapshot.set_data(group.machine.snapshot().into());
    let meta = snapshot.mut_metadata();
    (meta.index, meta.term) = group.applied;
    meta.set_conf_state(group.node.store().conf().clone());
    group.node.mut_store().offer(snapshot);
}
