//! Search for objects of a run on this machine and in its Docker Engine, from outside the run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

use crate::children;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Process,
    /// Process that is stopped by SIGSTOP.
    Stopped,
    /// Process that runs in a container.
    Contained,
    Mount,
    /// File that fills a node's disk.
    Ballast,
    Folder,
    /// File of the run in the directory for temporary files.
    Temporary,
    Container,
    Network,
    Volume,
    /// Table of nftables in the machine's own network namespace.
    Table,
    Qdisc,
}

impl Kind {
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Process => "processes",
            Self::Stopped => "stopped processes",
            Self::Contained => "processes in containers",
            Self::Mount => "mounts",
            Self::Ballast => "ballasts",
            Self::Folder => "folders",
            Self::Temporary => "temporary files",
            Self::Container => "containers",
            Self::Network => "networks",
            Self::Volume => "volumes",
            Self::Table => "nft tables",
            Self::Qdisc => "qdiscs",
        }
    }
}

/// Object of a run, as its kind and its name. The name of a process consists of its pid and its start time.
pub type Thing = (Kind, String);
pub type Things = BTreeSet<Thing>;

/// Objects that existed before the run. The search ignores them.
pub struct Machine {
    folders: BTreeSet<PathBuf>,
    network: Things,
}

/// Run whose objects are searched.
pub struct Run<'a> {
    pub runner: u32,
    /// Id of the run, from its first event. `None` if the run emitted no event.
    pub id: Option<&'a str>,
    /// Value of the run's variable `TMPDIR`.
    pub temporary: &'a Path,
}

impl Machine {
    pub fn look() -> Self {
        Self { folders: folders(), network: network() }
    }

    /// Returns all objects of the run that exist now. The run must still be alive.
    pub fn things(&self, run: &Run) -> Things {
        let supervisor = children(run.runner).first().copied();
        let own = |folder: &PathBuf| supervisor.is_some_and(|pid| holds(pid, folder));
        let folders: Vec<PathBuf> = folders().into_iter().filter(own).collect();
        let containers = run.id.map(containers).unwrap_or_default();
        let mut things: Things = supervisor.map(below).unwrap_or_default().into_iter().filter_map(process).collect();
        let contained = containers.iter().filter_map(|id| first_process(id)).flat_map(below).filter_map(process);
        things.extend(contained.map(|(_, name)| (Kind::Contained, name)));
        things.extend(folders.iter().flat_map(|folder| within(folder)));
        things.extend(self.rest(run));
        things
    }

    /// Returns the objects in `before` that still exist, and objects that appeared after `before` was made.
    pub fn left(&self, run: &Run, before: &Things) -> Things {
        let mut left: Things = before.iter().filter(|thing| there(thing)).cloned().collect();
        // A folder created at the moment of the end has no owner.
        for folder in folders().into_iter().filter(|folder| !self.folders.contains(folder) && is_nobodys(folder)) {
            left.extend(within(&folder));
        }
        left.extend(self.rest(run));
        left
    }

    /// Returns the objects that can be found by their location, even after the run has ended.
    fn rest(&self, run: &Run) -> Things {
        let mut things: Things = network().difference(&self.network).cloned().collect();
        let entries = fs::read_dir(run.temporary).into_iter().flatten().flatten();
        things.extend(entries.map(|entry| (Kind::Temporary, entry.path().display().to_string())));
        if let Some(id) = run.id {
            things.extend(containers(id).into_iter().map(|id| (Kind::Container, id)));
            things.extend(listed(&["network", "ls", "-q"], id).into_iter().map(|id| (Kind::Network, id)));
            things.extend(listed(&["volume", "ls", "-q"], id).into_iter().map(|id| (Kind::Volume, id)));
        }
        things
    }
}

pub fn counted(things: impl IntoIterator<Item = Kind>) -> String {
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    for kind in things {
        *counts.entry(kind).or_default() += 1;
    }
    let texts: Vec<String> = counts.into_iter().map(|(kind, count)| format!("{count} {}", kind.plural())).collect();
    if texts.is_empty() { "nothing".into() } else { texts.join(", ") }
}

/// Returns true if an object still exists. Used for kinds of objects that are not found by location.
pub fn there((kind, name): &Thing) -> bool {
    match kind {
        Kind::Process | Kind::Stopped | Kind::Contained => {
            name.split(' ').next().and_then(|pid| pid.parse().ok()).and_then(process).is_some_and(|(_, now)| now == *name)
        }
        Kind::Mount => mounts().contains(&PathBuf::from(name)),
        Kind::Ballast | Kind::Folder => fs::symlink_metadata(name).is_ok(),
        Kind::Temporary | Kind::Container | Kind::Network | Kind::Volume | Kind::Table | Kind::Qdisc => false,
    }
}

/// Returns the work directories of all runs.
fn folders() -> BTreeSet<PathBuf> {
    let entries = fs::read_dir("/var/tmp").into_iter().flatten().flatten();
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.len() == 9 && name.starts_with('w') && name[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    entries.map(|entry| entry.path()).filter(ours).collect()
}

/// Returns true if a process has the directory open. A supervisor has the work directory of its run open.
fn holds(pid: u32, folder: &Path) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.map(|entry| entry.path()).any(|link| fs::read_link(link).is_ok_and(|path| path == folder))
}

fn is_nobodys(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|dir| Flock::lock(dir, FlockArg::LockExclusiveNonblock).is_ok())
}

/// Returns a directory as an object, with the mounts below it and the files that fill disks.
fn within(folder: &Path) -> Things {
    let mut things = Things::from([(Kind::Folder, folder.display().to_string())]);
    things.extend(mounts().into_iter().filter(|at| at.starts_with(folder)).map(|at| (Kind::Mount, at.display().to_string())));
    let mut rest = vec![folder.to_owned()];
    while let Some(dir) = rest.pop() {
        // A folder that was removed meanwhile, or was a mount of a dead process, is empty.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                rest.push(entry.path());
            } else if entry.file_name().to_string_lossy().ends_with("backup.tar") {
                things.insert((Kind::Ballast, entry.path().display().to_string()));
            }
        }
    }
    things
}

fn mounts() -> BTreeSet<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect()
}

/// Returns the nftables tables and the qdiscs of network devices that no engine creates.
fn network() -> Things {
    let tables = lines("nft", &["list", "tables"]).into_iter().map(|line| (Kind::Table, line));
    let qdiscs = lines("tc", &["qdisc", "show"]).into_iter().filter(|line| !line.contains(" dev veth") && !line.contains(" dev br-"));
    tables.chain(qdiscs.map(|line| (Kind::Qdisc, line))).collect()
}

fn containers(run: &str) -> Vec<String> {
    listed(&["ps", "-aq", "--no-trunc"], run)
}

fn listed(words: &[&str], run: &str) -> Vec<String> {
    lines("docker", &[words, &["--filter", &format!("label=chaosrun.run={run}")]].concat())
}

fn first_process(container: &str) -> Option<u32> {
    let pid = lines("docker", &["inspect", "-f", "{{.State.Pid}}", container]).first()?.parse().ok()?;
    (pid != 0).then_some(pid)
}

fn lines(program: impl AsRef<OsStr>, words: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(words).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Returns the pids of a process and of all its descendants.
fn below(pid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let parents: Vec<(u32, u32)> = pids.into_iter().filter_map(|one| Some((one, stat(one)?.1.parse().ok()?))).collect();
    let mut all = BTreeSet::from([pid]);
    loop {
        let more: Vec<u32> =
            parents.iter().filter(|(one, parent)| all.contains(parent) && !all.contains(one)).map(|(one, _)| *one).collect();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// Returns a process as an object. Returns `None` if the process has ended, even if it was not reaped.
fn process(pid: u32) -> Option<Thing> {
    let (state, _, started) = stat(pid)?;
    let name = format!("{pid} {started}");
    match state.as_str() {
        "Z" | "X" => None,
        "T" => Some((Kind::Stopped, name)),
        _ => Some((Kind::Process, name)),
    }
}

/// Returns the state, the parent pid and the start time of a process from `/proc/PID/stat`.
fn stat(pid: u32) -> Option<(String, String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
    Some((fields.next()?, fields.next()?, fields.nth(17)?))
}
