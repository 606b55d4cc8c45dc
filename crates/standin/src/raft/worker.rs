//! Thread of a Raft host. Each turn takes queued inputs, steps the groups, writes one frame, and does the work that Raft permits after the
//! write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Instant;

use nix::fcntl::Flock;
use raft::eraftpb::Snapshot;
use raft::{Ready, StateRole};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::checkpoint::{Checkpoint, Job};
use super::config::{HostObserver, RaftTiming};
use super::group::Group;
use super::handle::{Input, ProposeError, ReadError};
use super::link::HostLinks;
use super::snapshot::{self, Saved};
use super::wal::{AppendError, Batch, Wal, is_full};
use crate::log::NodeLog;

/// Largest number of queued inputs that one turn takes.
const TAKE: usize = 1024;

/// Reason why the thread of a host ends.
pub(super) enum End {
    Stopped,
    /// The host cannot continue, for example because its disk fails.
    Failed(String),
}

pub(super) struct Worker {
    pub(super) id: u64,
    pub(super) dir: PathBuf,
    pub(super) hosts: usize,
    pub(super) groups: BTreeMap<u64, Group>,
    /// Ids of the groups that have changed since they were last processed.
    pub(super) dirty: BTreeSet<u64>,
    pub(super) incoming: Receiver<Input>,
    pub(super) wal: Wal,
    pub(super) network: HostLinks,
    pub(super) timing: RaftTiming,
    pub(super) next_tick: Instant,
    pub(super) connected: BTreeSet<u64>,
    pub(super) heard: BTreeSet<u64>,
    pub(super) notes: watch::Sender<BTreeMap<u64, String>>,
    /// Inputs that arrived while the disk was full and that must not be lost.
    pub(super) deferred: Vec<Input>,
    pub(super) checkpoint: Checkpoint,
    pub(super) saver: SyncSender<Job>,
    pub(super) full: Arc<AtomicBool>,
    pub(super) cancel: CancellationToken,
    pub(super) observer: Arc<dyn HostObserver>,
    pub(super) log: NodeLog,
    pub(super) _lock: Flock<File>,
}

impl Worker {
    pub(super) fn run(mut self) -> End {
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
        // A process that was stopped for a while gets one tick, not all missed ones, since it must hear the other hosts first.
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

    /// Starts the first election of a new group without an election timeout. The designated peer campaigns as soon as this host can
    /// exchange messages with a quorum.
    fn campaign_if_new(&mut self) {
        let reachable = self.connected.intersection(&self.heard).count() + 1;
        if reachable * 2 <= self.hosts {
            return;
        }
        for group in self.groups.values_mut().filter(|group| group.first_leader == self.id && group.is_new()) {
            if group.node.raft.state != StateRole::Follower {
                continue;
            }
            // Raft refuses the campaign only if the campaign cannot succeed.
            let _ = group.node.campaign();
            self.dirty.insert(group.id);
        }
    }

    /// Processes all changed groups, and repeats until no group has work left.
    fn turn(&mut self) -> Result<(), End> {
        let mut touched = BTreeSet::new();
        loop {
            let mut batch = Batch::default();
            let mut readies = Vec::new();
            for id in std::mem::take(&mut self.dirty) {
                touched.insert(id);
                if let Some(ready) = self.collect(id, &mut batch)? {
                    readies.push((id, ready));
                }
            }
            // A leader may send entries while its own disk still writes them.
            let mut lost = self.network.flush();
            if readies.is_empty() {
                self.report_lost(lost);
                break;
            }
            let must_sync = readies.iter().any(|(_, ready)| ready.must_sync());
            if must_sync {
                self.persist(&mut batch)?;
            }
            for (id, ready) in readies {
                let Some(group) = self.groups.get_mut(&id) else { continue };
                // A change of the commit index alone waits for the next frame, because a crash may lose the commit index.
                group.hard_waits |= !must_sync && ready.hs().is_some();
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
        Ok(())
    }

    /// Takes the `Ready` of a group. Adds to `batch` the data that must be on disk before the group continues.
    fn collect(&mut self, id: u64, batch: &mut Batch) -> Result<Option<Ready>, End> {
        let Some(group) = self.groups.get_mut(&id) else { return Ok(None) };
        group.issue_reads();
        if group.node.store().take_wanted() {
            offer_snapshot(group);
        }
        if !group.node.has_ready() {
            return Ok(None);
        }
        let mut ready = group.node.ready();
        group.send(&ready.take_messages(), &mut self.network);
        if let Some(hard) = ready.hs() {
            // This hard state is newer than the waiting one, which must not be written afterwards.
            group.hard_waits = false;
            batch.hard(id, hard);
        }
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot().clone();
            self.receive_snapshot(id, &snapshot)?;
            batch.base(id, snapshot.get_metadata().index, snapshot.get_metadata().term);
        }
        for entry in ready.entries() {
            batch.entry(id, entry);
        }
        Ok(Some(ready))
    }

    /// Writes a batch to the log. While the disk is full, refuses requests and retries the write.
    fn persist(&mut self, batch: &mut Batch) -> Result<(), End> {
        for group in self.groups.values_mut().filter(|group| group.hard_waits) {
            batch.hard(group.id, group.node.store().hard());
            group.hard_waits = false;
        }
        loop {
            let began = Instant::now();
            match self.wal.append(batch) {
                Ok(bytes) => {
                    self.observer.appended(began.elapsed(), bytes);
                    if self.full.swap(false, Ordering::Relaxed) {
                        self.log.info("disk has room again, the raft log is written", &[]);
                        self.dirty.extend(self.groups.keys());
                    }
                    return Ok(());
                }
                Err(AppendError::Full) => self.wait_for_room()?,
                Err(AppendError::Broken(error)) => return Err(End::Failed(format!("the raft log cannot be written: {error}"))),
            }
        }
    }

    /// Waits for one tick while the disk is full. The host exchanges no messages with its peers, so the peers elect other leaders.
    fn wait_for_room(&mut self) -> Result<(), End> {
        if !self.full.swap(true, Ordering::Relaxed) {
            self.log.error("disk is full, the raft log cannot be written", &[("dir", &self.dir.display())]);
            for group in self.groups.values_mut() {
                group.fail_proposals(ProposeError::Unknown);
                group.fail_reads(ReadError::Unavailable);
                group.publish_mute();
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
                // The groups are in the middle of a step, so only inputs that do not change groups are handled here.
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
}

/// Creates a snapshot of the machine's current state if Raft has requested a snapshot.
fn offer_snapshot(group: &mut Group) {
    let mut snapshot = Snapshot::default();
    snapshot.set_data(group.machine.snapshot().into());
    let meta = snapshot.mut_metadata();
    (meta.index, meta.term) = group.applied;
    meta.set_conf_state(group.node.store().conf().clone());
    group.node.mut_store().offer(snapshot);
}
