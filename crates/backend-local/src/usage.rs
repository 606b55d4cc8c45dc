//! Resource usage of the processes of a node, as the kernel counts it.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, Uid, User, sysconf};

use chaosrun_base::family;
use chaosrun_cluster::{NodeUsage, ProcessInfo};

/// Fields of `/proc/PID/stat` that this module needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// CPU time of the process, in clock ticks.
    cpu: u64,
    threads: u32,
    /// Start time of the process, in clock ticks after the boot.
    started: u64,
    /// Resident memory of the process, in pages.
    resident: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses a line of `/proc/PID/stat`. The process name may contain any character, so parsing begins behind the last parenthesis.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc(5) numbers fields from 1, and the first element of `fields` is field 3.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(4)?).ok()?,
            cpu: number(14)? + number(15)?,
            threads: u32::try_from(number(20)?).ok()?,
            started: number(22)?,
            resident: number(24)?,
        })
    }
}

fn constant(variable: SysconfVar, otherwise: u64) -> u64 {
    sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(otherwise).max(1)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000) / constant(SysconfVar::CLK_TCK, 100))
}

/// Returns the pids of `root` and all its descendants, beginning with `root`.
fn tree(supervisor: u32, root: u32) -> Vec<u32> {
    let others = family::descendants(supervisor).into_iter().filter(|one| one.through == root).map(|one| one.process.pid);
    let mut all = vec![root];
    all.extend(others.filter(|pid| *pid != root));
    all
}

/// Returns the resource usage of the process tree that begins at `root`, a child of the supervisor.
pub(super) fn usage(supervisor: u32, root: u32) -> NodeUsage {
    let page = constant(SysconfVar::PAGE_SIZE, 4096);
    let stats: Vec<Stat> = tree(supervisor, root).into_iter().filter_map(Stat::of).collect();
    NodeUsage {
        cpu: ticks(stats.iter().map(|stat| stat.cpu).sum()),
        memory: stats.iter().map(|stat| stat.resident).sum::<u64>() * page,
        memory_limit: memory(),
        processes: stats.iter().map(|stat| stat.threads).sum(),
        network: None,
    }
}

/// Returns the memory of the machine in bytes, which is the memory limit of a node of this backend.
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Returns a description of each process of the tree that begins at `root`.
pub(super) fn processes(supervisor: u32, root: u32) -> Vec<ProcessInfo> {
    let uptime = fs::read_to_string("/proc/uptime").ok().and_then(|text| text.split('.').next()?.parse::<u64>().ok()).unwrap_or(0);
    let mut users: HashMap<u32, String> = HashMap::new();
    let info = |pid: u32| {
        let stat = Stat::of(pid)?;
        let user = users.entry(owner(pid)).or_insert_with_key(|uid| name(*uid)).clone();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
        let elapsed = Duration::from_secs(uptime).saturating_sub(ticks(stat.started));
        Some(ProcessInfo { pid, parent: stat.parent, user, cpu: ticks(stat.cpu), elapsed, command })
    };
    tree(supervisor, root).into_iter().filter_map(info).collect()
}

fn owner(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|uid| uid.parse().ok()).unwrap_or(0)
}

fn name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_is_parsed_for_any_process_name() {
        let line = "42 (a ) b) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 12345 1000000 250 18446744073709551615";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 7, cpu: 200, threads: 9, started: 12345, resident: 250 }));
        assert_eq!(Stat::parse("42 (x) S 7"), None);
    }

    #[test]
    fn this_process_has_usage() {
        let own = std::process::id();
        let used = usage(own, own);
        assert!(used.memory > 0 && used.processes > 0 && used.memory_limit > Some(used.memory), "{used:?}");
        let all = processes(own, own);
        assert_eq!(all[0].pid, own);
        assert!(!all[0].command.is_empty() && !all[0].user.is_empty(), "{all:?}");
    }
}
