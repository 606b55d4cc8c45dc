//! Search for child and descendant processes by means of `/proc`.
//!
//! To find descendants, all of `/proc` is read (about 10 us per process). `/proc/PID/task/TID/children` is faster, but it is reliable only
//! for one's own children, and not every kernel has it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;

/// Name of an environment variable that marks descendants, even after they left their parent and their session. The name does not reveal
/// chaosrun, because systemd uses the same variable.
pub const MARKER: &str = "INVOCATION_ID";

/// Fields of `/proc/PID/stat` that this crate uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    /// State of the process: `Z` means ended and not yet reaped, `T` means stopped.
    pub state: char,
    /// Start time in clock ticks since boot. The pid and the start time together identify a process uniquely, since pids are reused.
    pub started: u64,
}

impl ProcessStat {
    /// Reads the current state of a process. Returns `None` if the process does not exist.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let mut buffer = [0_u8; 512];
        let len = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
        Self::parse(pid, &buffer[..len])
    }

    /// Parses the text of `/proc/PID/stat`. The process name in parentheses may contain any character, so fields are counted from the last
    /// parenthesis.
    fn parse(pid: u32, stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let text = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
        let mut fields = text.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let started = fields.nth(15)?.parse().ok()?;
        Some(Self { pid, parent, group, session, state, started })
    }

    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Descendant of a process, with the branch of the family through which it descends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descendant {
    pub process: ProcessStat,
    /// Pid of the ancestor's child from which this process descends, or of this process if it is that child.
    pub through: u32,
}

/// Returns all descendants of `ancestor`, including ended processes that were not reaped. Parents come before their children.
#[must_use]
pub fn descendants(ancestor: u32) -> Vec<Descendant> {
    let mut children: HashMap<u32, Vec<ProcessStat>> = HashMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: Vec<Descendant> = Vec::new();
    for process in children.remove(&ancestor).unwrap_or_default() {
        found.push(Descendant { process, through: process.pid });
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        for process in children.remove(&parent.process.pid).unwrap_or_default() {
            found.push(Descendant { process, through: parent.through });
        }
        next += 1;
    }
    found
}

/// Returns the children of the calling process, whose pid is `own`. Returns `None` if this kernel does not provide the list.
///
/// The list is complete only if the caller has one thread and reaps its children itself.
#[must_use]
pub fn children(own: u32) -> Option<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).ok()?;
    text.split_ascii_whitespace().map(|pid| pid.parse().ok()).collect()
}

/// Returns all processes of this machine that `/proc` lists.
pub fn all() -> impl Iterator<Item = ProcessStat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| ProcessStat::read(entry.file_name().to_str()?.parse().ok()?))
}

/// Result of reading [`MARKER`] from the environment with which a process was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    As(Vec<u8>),
    /// The process has no marker, or its environment cannot be read.
    Not,
    /// The process is executing another program at this moment. The caller must read the marker again.
    NotYet,
}

/// Reads the marker from the environment of a process.
#[must_use]
pub fn marker(pid: u32) -> Marked {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return Marked::Not };
    if environment.is_empty() && !has_no_environment(pid) {
        return Marked::NotYet;
    }
    let mut variables = environment.split(|byte| *byte == 0);
    let marker = variables.find_map(|variable| variable.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"="));
    marker.map_or(Marked::Not, |marker| Marked::As(marker.to_vec()))
}

/// Returns true if the environment of a process is really empty, which means that `env_start` and `env_end` (the 50th and 51st field) are
/// equal.
///
/// The environment also reads as empty in two other cases:
/// * An execve(2) has given the process new memory but no stack yet. `env_end` is then 0.
/// * The memory has been replaced since `environ` was opened. The new addresses then differ.
fn has_no_environment(pid: u32) -> bool {
    // If the process is gone, there is nothing to wait for.
    let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { return true };
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace().skip(47);
    matches!((fields.next(), fields.next()), (Some(start), Some(end)) if start == end && end != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_process_with_an_unusual_name_is_parsed() {
        let line = b"42 (a) R 1 (b) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 1";
        let process = ProcessStat::parse(42, line).unwrap();
        assert_eq!(process, ProcessStat { pid: 42, parent: 7, group: 42, session: 41, state: 'S', started: 98765 });
        assert_eq!(ProcessStat::parse(42, b"42 (a"), None);
    }

    #[test]
    fn empty_environment_differs_from_an_unreadable_one() {
        use std::process::{Command, Stdio};
        for (value, expected) in [(Some("7"), Marked::As(b"7".to_vec())), (None, Marked::Not)] {
            let mut child =
                Command::new("/bin/cat").env_clear().envs(value.map(|value| (MARKER, value))).stdin(Stdio::piped()).spawn().unwrap();
            let found = std::iter::repeat_with(|| marker(child.id())).find(|marked| *marked != Marked::NotYet);
            drop(child.stdin.take());
            child.wait().unwrap();
            assert_eq!(found, Some(expected));
        }
    }

    #[test]
    fn this_process_is_found_below_its_parent() {
        let me = ProcessStat::read(std::process::id()).unwrap();
        assert!(descendants(me.parent).iter().any(|one| one.process.pid == me.pid && one.through == me.pid));
    }
}
