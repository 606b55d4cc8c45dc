//! Process trees that the supervisor is responsible for.
//!
//! A tree consists of one spawned process, its descendants, and processes that left it by a double fork and a session of their own. Such a
//! daemon becomes a child of the supervisor (the subreaper). The supervisor attributes a daemon to a tree by an earlier observation, else
//! by its session, else by the marker in its environment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use super::wire::{Reach, Report};
use chaosrun_base::family;
use chaosrun_base::family::{Marked, ProcessStat};

#[derive(Debug)]
pub struct Tree {
    pub scope: u64,
    /// Number of the tree with which this tree dies; 0 means no other tree.
    pub with: u64,
    pub linger: bool,
    /// Pid of the first process of the tree, which leads the session.
    pub root: u32,
    pub marker: Vec<u8>,
    /// True while the first process has not been reaped, so that its pid cannot have been reused.
    pub live: bool,
}

/// Request that is answered when no process of any tree in `trees` is left.
#[derive(Debug)]
struct Waiting {
    request: u64,
    trees: BTreeSet<u64>,
}

#[derive(Debug)]
pub(crate) struct Trees {
    supervisor: u32,
    known: BTreeMap<u64, Tree>,
    /// Tree number of each first process that is not reaped yet, by pid.
    roots: HashMap<u32, u64>,
    /// Tree number of each observed process, by pid and start time.
    seen: HashMap<(u32, u64), u64>,
    doomed: BTreeSet<u64>,
    /// Numbers of the scopes that were killed.
    closed: BTreeSet<u64>,
    waiting: Vec<Waiting>,
    /// True if the last scan found an orphan that could not be attributed to a tree.
    unsettled: bool,
}

impl Trees {
    pub fn new(supervisor: u32) -> Self {
        Self {
            supervisor,
            known: BTreeMap::new(),
            roots: HashMap::new(),
            seen: HashMap::new(),
            doomed: BTreeSet::new(),
            closed: BTreeSet::new(),
            waiting: Vec::new(),
            unsettled: false,
        }
    }

    pub fn insert(&mut self, id: u64, tree: Tree) {
        self.roots.insert(tree.root, id);
        self.known.insert(id, tree);
    }

    pub fn is_closed(&self, scope: u64) -> bool {
        self.closed.contains(&scope)
    }

    /// Records that a child was reaped. Returns the number of the tree whose first process it was.
    pub fn reaped(&mut self, pid: u32) -> Option<u64> {
        let id = self.roots.remove(&pid)?;
        let tree = self.known.get_mut(&id)?;
        tree.live = false;
        if !tree.linger {
            self.doom(id);
        }
        Some(id)
    }

    /// Sends a signal to the processes of the tree `id` that `reach` selects.
    pub fn signal(&mut self, id: u64, signal: i32, reach: Reach) -> Result<(), Errno> {
        let tree = self.known.get(&id).ok_or(Errno::ESRCH)?;
        match reach {
            Reach::Group if tree.live => send_group(tree.root, signal),
            Reach::Group => Err(Errno::ESRCH),
            Reach::Tree => self.signal_all(id, signal),
        }
    }

    /// Sends a signal to all processes of a tree: first to the process groups at once, then to processes that left the groups. Repeats the
    /// scan until it finds no new process, since a process may fork in the meantime.
    fn signal_all(&mut self, id: u64, signal: i32) -> Result<(), Errno> {
        let reached = self.closure(id);
        let mut result = Err(Errno::ESRCH);
        let mut groups = BTreeSet::new();
        for root in reached.iter().filter_map(|id| self.known.get(id)).filter(|tree| tree.live).map(|tree| tree.root) {
            groups.insert(root);
            result = send_group(root, signal).or(result);
        }
        let mut done = BTreeSet::new();
        for _ in 0..64 {
            let before = done.len();
            for (process, owner) in self.look() {
                let ours = owner.is_some_and(|owner| reached.contains(&owner)) && !groups.contains(&process.group);
                if ours && !process.ended() && done.insert((process.pid, process.started)) {
                    result = send(process.pid, signal).or(result);
                }
            }
            if done.len() == before {
                break;
            }
        }
        result
    }

    /// Marks a tree for its end. The supervisor answers `request` when no process of the tree is left.
    pub fn kill(&mut self, request: u64, id: u64) {
        let trees = self.closure(id);
        self.kill_all(request, trees);
    }

    /// Kills all trees of a scope and closes the scope. A closed scope refuses starts that arrive after the kill.
    pub fn kill_scope(&mut self, request: u64, scope: u64) {
        self.closed.insert(scope);
        let trees = self.known.iter().filter(|(_, tree)| tree.scope == scope).map(|(id, _)| *id).collect();
        self.kill_all(request, trees);
    }

    fn kill_all(&mut self, request: u64, trees: BTreeSet<u64>) {
        for id in &trees {
            self.doom(*id);
        }
        self.waiting.push(Waiting { request, trees });
    }

    /// Kills the process groups of a tree and its dependent trees, without a scan of `/proc`, so that all die at the same time.
    fn doom(&mut self, id: u64) {
        for id in self.closure(id) {
            if self.doomed.insert(id) && self.known[&id].live {
                // An error means that the process has ended by itself and waits to be reaped, which needs no action.
                let _ = send_group(self.known[&id].root, libc::SIGKILL);
            }
        }
    }

    /// Returns the numbers of the tree `id` and of all trees that die with it.
    fn closure(&self, id: u64) -> BTreeSet<u64> {
        let with = self.known.iter().filter(|(other, tree)| tree.with == id || **other == id);
        with.map(|(id, _)| *id).collect()
    }

    pub fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Returns true if a scan for remaining processes is useful. While the first process of a killed tree still exists, its children cannot
    /// be reaped here.
    pub fn roots_gone(&self) -> bool {
        !self.doomed.iter().any(|id| self.known.get(id).is_some_and(|tree| tree.live))
    }

    /// Kills the remaining processes of killed trees, and forgets trees without processes.
    pub fn sweep(&mut self) {
        let mut left = BTreeSet::new();
        self.unsettled = false;
        let family = if self.nothing_left() { Vec::new() } else { self.look() };
        for (process, owner) in family {
            let Some(owner) = owner.filter(|owner| self.doomed.contains(owner)) else { continue };
            left.insert(owner);
            if !process.ended() {
                // An error means that the process has ended, or that the signal is not permitted. The next scan distinguishes the two
                // cases.
                let _ = send(process.pid, libc::SIGKILL);
            }
        }
        if self.unsettled {
            // The unattributed process may belong to any of the killed trees.
            return;
        }
        let gone: Vec<u64> =
            self.doomed.difference(&left).copied().filter(|id| !self.known.get(id).is_some_and(|tree| tree.live)).collect();
        for id in gone {
            self.doomed.remove(&id);
            self.known.remove(&id);
        }
    }

    /// Returns true if no process of a killed tree is left. No scan of `/proc` is needed: every descendant descends through a child, and
    /// the first process of a tree has only its own tree below it.
    fn nothing_left(&self) -> bool {
        let others = |child: &u32| self.roots.get(child).is_some_and(|id| !self.doomed.contains(id));
        childless() || family::children(self.supervisor).is_some_and(|children| children.iter().all(others))
    }

    /// Returns the answers to requests whose trees have no process left.
    pub fn answers(&mut self) -> Vec<Report> {
        let mut answers = Vec::new();
        self.waiting.retain(|waiting| {
            let over = !waiting.trees.iter().any(|id| self.doomed.contains(id));
            if over {
                answers.push(Report::Done { request: waiting.request, errno: 0 });
            }
            !over
        });
        answers
    }

    /// Kills every descendant of the supervisor. Returns true if at least one descendant could be killed.
    pub fn kill_everything(&mut self) -> bool {
        for root in self.roots.keys() {
            // An error means that the process has ended by itself and waits to be reaped, which needs no action.
            let _ = send_group(*root, libc::SIGKILL);
        }
        let mut some = false;
        for one in family::descendants(self.supervisor) {
            some |= one.process.ended() || send(one.process.pid, libc::SIGKILL) != Err(Errno::EPERM);
        }
        some
    }

    /// Returns all descendants, each with its tree number if the tree is known. Stores the observations for the next scan.
    fn look(&mut self) -> Vec<(ProcessStat, Option<u64>)> {
        let mut through: HashMap<u32, Option<u64>> = HashMap::new();
        let mut seen = HashMap::new();
        let mut all = Vec::new();
        for one in family::descendants(self.supervisor) {
            let key = (one.process.pid, one.process.started);
            let owner = if one.process.pid == one.through {
                let owner = self.owner(&one.process);
                through.insert(one.through, owner);
                owner
            } else {
                through.get(&one.through).copied().flatten().or_else(|| self.owner(&one.process))
            };
            if let Some(owner) = owner {
                seen.insert(key, owner);
            }
            all.push((one.process, owner));
        }
        self.seen = seen;
        all
    }

    fn owner(&mut self, process: &ProcessStat) -> Option<u64> {
        let known = self.roots.get(&process.pid).or_else(|| self.seen.get(&(process.pid, process.started))).copied();
        // The newest tree comes first, since the pid of a session without processes may be reused.
        let by_session = || self.known.iter().rev().find(|(_, tree)| tree.root == process.session).map(|(id, _)| *id);
        if let Some(owner) = known.or_else(by_session) {
            return Some(owner);
        }
        match family::marker(process.pid) {
            Marked::As(marker) => self.known.iter().find(|(_, tree)| tree.marker == marker).map(|(id, _)| *id),
            Marked::Not => None,
            Marked::NotYet => {
                self.unsettled |= !process.ended();
                None
            }
        }
    }
}

/// Returns true if this process has no child, neither running nor ended.
pub(crate) fn childless() -> bool {
    // SAFETY: an all-zero siginfo is valid, and waitid(2) writes only this value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid(2) writes only the siginfo.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    result == -1 && Errno::last() == Errno::ECHILD
}

fn raw(pid: u32) -> Pid {
    // Pids are at most 2^22 on Linux. A larger number refers to no process.
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// Sends a signal to a process by number. The number may be any signal, also a real-time signal, as in a container engine.
fn send(pid: u32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) accesses no memory of this process.
    Errno::result(unsafe { libc::kill(raw(pid).as_raw(), signal) }).map(drop)
}

fn send_group(group: u32, signal: i32) -> Result<(), Errno> {
    // SAFETY: killpg(3) accesses no memory of this process.
    Errno::result(unsafe { libc::killpg(raw(group).as_raw(), signal) }).map(drop)
}
