//! Compaction of the Raft log: the states of the groups are saved one after the other. The log then restarts after the saved states.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::handle::Input;
use super::snapshot::{self, Saved};
use super::wal::{Batch, is_full};
use super::worker::{End, Worker};

/// Progress of the current compaction of the log.
pub(super) struct Checkpoint {
    pub(super) limit: u64,
    /// Size of the log in bytes at which the next compaction begins.
    pub(super) next: u64,
    pub(super) queue: Vec<u64>,
    pub(super) saving: Option<u64>,
    /// Size in bytes of all states that the current compaction has saved so far.
    pub(super) bytes: u64,
    pub(super) running: bool,
}

impl Checkpoint {
    /// Creates the initial progress. The first compaction begins when the log exceeds `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, next: limit, queue: Vec::new(), saving: None, bytes: 0, running: false }
    }
}

/// Request to the saver thread to write the state of one group to disk.
pub(super) struct Job {
    pub(super) group: u64,
    pub(super) saved: Saved,
}

/// Starts a thread that writes snapshots. A state may be large, and the heartbeats of the host's own thread must not wait for the write.
pub(super) fn start_saver(dir: PathBuf, inbox: SyncSender<Input>) -> io::Result<SyncSender<Job>> {
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

impl Worker {
    /// Advances the compaction by one step. One call copies the state of at most one group.
    pub(super) fn compact(&mut self) -> Result<(), End> {
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

    pub(super) fn saved(&mut self, id: u64, at: (u64, u64), bytes: u64, outcome: io::Result<()>) -> Result<(), End> {
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

    /// Postpones the compaction because the disk has no space. The next attempt follows when the log has grown by another `limit` bytes.
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
