//! Lookup of the process tree of this trial that owns a socket.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError, RwLock};

use super::relay::owner::{pid_has_inode, socket_inode};
use super::relay::{ConnectionSource, Owners};
use chaosrun_base::family;
use chaosrun_base::family::Marked;

/// Owner of a process tree or of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    Node(String),
    Workload,
    Agent,
}

impl From<&Who> for ConnectionSource {
    fn from(who: &Who) -> Self {
        match who {
            Who::Node(name) => Self::Node(name.clone()),
            Who::Workload => Self::Workload,
            Who::Agent => Self::Agent,
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    who: Who,
    marker: Vec<u8>,
    root: Option<u32>,
}

/// Registry of the process trees of the trial that may still contain a process.
#[derive(Debug)]
pub(super) struct Roster {
    supervisor: u32,
    entries: RwLock<BTreeMap<u64, Entry>>,
    /// Owners of sockets that this process dials for another process, by the address of the socket.
    lent: Mutex<HashMap<SocketAddr, Who>>,
}

impl Roster {
    pub(super) fn new(supervisor: u32) -> Self {
        Self { supervisor, entries: RwLock::default(), lent: Mutex::default() }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<u64, Entry>)) {
        change(&mut self.entries.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn insert(&self, tree: u64, marker: &str, who: Who) {
        self.change(|entries| drop(entries.insert(tree, Entry { who, marker: marker.into(), root: None })));
    }

    /// Stores the pid of the first process of a tree, so that most lookups need no scan of /proc.
    pub(super) fn is_root(&self, tree: u64, pid: u32) {
        self.change(|entries| {
            if let Some(entry) = entries.get_mut(&tree) {
                entry.root = Some(pid);
            }
        });
    }

    /// Removes the pid of a first process that has ended, since the pid may soon be reused.
    pub(super) fn root_ended(&self, tree: u64) {
        self.change(|entries| {
            if let Some(entry) = entries.get_mut(&tree) {
                entry.root = None;
            }
        });
    }

    pub(super) fn remove(&self, tree: u64) {
        self.change(|entries| drop(entries.remove(&tree)));
    }

    /// Registers that the next connection from the local address `own` belongs to `who`.
    pub(super) fn lend(&self, own: SocketAddr, who: Who) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).insert(own, who);
    }

    /// Removes the registration of the address `own`. Returns its owner, or `None` if the address is not registered.
    pub(super) fn forget(&self, own: SocketAddr) -> Option<Who> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).remove(&own)
    }

    fn holder(&self, inode: u64) -> Option<ConnectionSource> {
        // The entries are copied, since reading /proc takes up to milliseconds and new registrations must not wait for it.
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner).clone();
        let root = |entry: &&Entry| entry.root.is_some_and(|pid| pid_has_inode(pid, inode));
        if let Some(entry) = entries.values().find(root) {
            return Some((&entry.who).into());
        }
        if pid_has_inode(std::process::id(), inode) {
            // Probes of the monitor dial the same ports, so connections of this process at the relay count as workload.
            return Some(ConnectionSource::Workload);
        }
        let holder = family::descendants(self.supervisor).into_iter().find(|one| pid_has_inode(one.process.pid, inode))?;
        let by_root = || entries.values().find(|entry| entry.root == Some(holder.through));
        let by_marker = || {
            let Marked::As(marker) = family::marker(holder.process.pid) else { return None };
            entries.values().find(|entry| entry.marker == marker)
        };
        by_root().or_else(by_marker).map(|entry| (&entry.who).into())
    }
}

impl Owners for Roster {
    fn source(&self, peer: SocketAddr, local: SocketAddr) -> ConnectionSource {
        if let Some(who) = self.forget(peer) {
            return (&who).into();
        }
        let Ok(inode) = socket_inode(peer, local) else { return ConnectionSource::Outside };
        self.holder(inode).unwrap_or(ConnectionSource::Outside)
    }
}
