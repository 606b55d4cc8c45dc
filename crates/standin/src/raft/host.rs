//! Start of a Raft host: the host recovers its state from disk before it answers any request.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use raft::RawNode;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::checkpoint::{Checkpoint, start_saver};
use super::config::{GroupConfig, HostConfig, RaftTiming};
use super::group::{Group, GroupParts};
use super::handle::{Handle, HostState};
use super::link::{HostLinks, NetworkConfig};
use super::snapshot::{self, Saved};
use super::store::{FIRST_INDEX, GroupStore};
use super::wal::{Batch, RecoverError, Recovered, Wal};
use super::worker::{End, Worker};
use crate::log::NodeLog;

/// Capacity of the input queue of the host's thread. Proposals beyond this number fail as `Dropped`.
const INBOX: usize = 16 << 10;

/// Reason why a Raft host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`{}` is locked by another process", .0.display())]
    Locked(PathBuf),
    #[error("`{}`: {source}", dir.display())]
    Io { dir: PathBuf, source: io::Error },
    /// The log is damaged or belongs to another configuration.
    #[error("{0}")]
    Log(String),
}

/// Raft host with all its groups; see [`Host::start`].
pub struct Host;

impl Host {
    /// Recovers all groups from disk, then starts the host's thread and links. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be used or is locked by another process. A log that is damaged or of another host is an
    /// error too.
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
        let network = HostLinks::start(network).map_err(io)?;
        let (notes, noted) = watch::channel(BTreeMap::new());
        let status = Arc::new(running.iter().map(|(id, group)| (*id, group.watch())).collect());
        let (fate, fated) = watch::channel(HostState::Running);
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
            checkpoint: Checkpoint::new(log_limit),
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
                Ok(End::Stopped) => HostState::Stopped,
                Ok(End::Failed(why)) => HostState::Failed(why),
                Err(_) => HostState::Failed("consensus panicked".to_owned()),
            });
        };
        thread::Builder::new().name(format!("raft-{id}")).spawn(run).map_err(io)?;
        let last = Arc::new(cancel.clone().drop_guard());
        Ok(Handle { id, inbox, status, notes: noted, events, fate: fated, full, cancel, tasks, _last: last })
    }
}

/// Locks the directory until the returned file is closed. Returns `None` if another process holds the lock.
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
    timing: RaftTiming,
    log: &'a NodeLog,
    events: &'a broadcast::Sender<super::RoleChange>,
}

impl Opening<'_> {
    /// Recovers a group from the log and the newest snapshot of the group.
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
                // The leader sent the snapshot, and the process ended before the log recorded the snapshot.
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
