//! Log of one group, as the Raft library reads it: a copy in memory of the log on disk.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::util::limit_size;
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// Log index at which a new group begins on every peer, as in TiKV. The first election is for term 6, and the first entry has index 6.
pub(super) const FIRST_INDEX: u64 = 5;
pub(super) const FIRST_TERM: u64 = 5;

#[derive(Debug)]
pub(super) struct GroupStore {
    hard: HardState,
    conf: ConfState,
    /// Index and term of the entry before the first entry in memory.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    /// Snapshot to send to a peer that lacks entries before `base`.
    snapshot: Option<Snapshot>,
    wanted: Cell<bool>,
}

impl GroupStore {
    pub(super) fn new(voters: Vec<u64>, hard: HardState, base: (u64, u64), entries: VecDeque<Entry>) -> Self {
        let mut conf = ConfState::default();
        conf.set_voters(voters);
        Self { hard, conf, base, entries, snapshot: None, wanted: Cell::new(false) }
    }

    pub(super) fn hard(&self) -> &HardState {
        &self.hard
    }

    pub(super) fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
    }

    pub(super) fn conf(&self) -> &ConfState {
        &self.conf
    }

    pub(super) fn base(&self) -> (u64, u64) {
        self.base
    }

    pub(super) fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.place(index).and_then(|place| self.entries.get(place)).map(Entry::get_term)
    }

    fn place(&self, index: u64) -> Option<usize> {
        index.checked_sub(self.base.0 + 1).and_then(|place| usize::try_from(place).ok())
    }

    /// Appends entries to the log. Removes older entries that conflict with the new ones.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        if let Some(place) = self.place(first.get_index()) {
            self.entries.truncate(place);
        }
        self.entries.extend(entries);
    }

    /// Empties the log and restarts it after a snapshot received from the leader.
    pub(super) fn install(&mut self, index: u64, term: u64) {
        self.base = (index, term);
        self.entries.clear();
        self.snapshot = None;
        if self.hard.commit < index {
            self.hard.commit = index;
        }
    }

    /// Removes the entries up to `index`, except the newest `keep` bytes of these entries. Peers that are slightly behind still need them.
    pub(super) fn compact(&mut self, index: u64, keep: u64) {
        let Some(mut place) = self.place(index + 1) else { return };
        place = place.min(self.entries.len());
        let mut kept = 0;
        while place > 0 {
            kept += self.entries[place - 1].get_data().len() as u64 + 32;
            if kept > keep {
                break;
            }
            place -= 1;
        }
        let Some(last) = place.checked_sub(1).and_then(|last| self.entries.get(last)) else { return };
        self.base = (last.get_index(), last.get_term());
        self.entries.drain(..place);
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.get_metadata().index < self.base.0) {
            self.snapshot = None;
        }
    }

    /// Returns the entries with an index above `index`.
    pub(super) fn above(&self, index: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip_while(move |entry| entry.get_index() <= index)
    }

    /// Returns true if Raft has requested a snapshot that does not exist yet. Returns true once per request.
    pub(super) fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    pub(super) fn offer(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
    }
}

impl Storage for GroupStore {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(&self, low: u64, high: u64, max_size: impl Into<Option<u64>>, _context: GetEntriesContext) -> Result<Vec<Entry>> {
        let (Some(from), Some(to)) = (self.place(low), self.place(high)) else {
            return Err(Error::Store(StorageError::Compacted));
        };
        if from > to || to > self.entries.len() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let mut entries: Vec<Entry> = self.entries.range(from..to).cloned().collect();
        limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        match &self.snapshot {
            Some(snapshot) if snapshot.get_metadata().index >= request_index.max(self.base.0) => Ok(snapshot.clone()),
            _ => {
                self.wanted.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
