//! Identity of a process that owns containers or a run in the record. The identity shows whether the process is still alive. A pid alone is
//! not enough, because pids are reused.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd::Pid;

/// Identity of a process on this machine: pid, start time and boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessId {
    pub pid: u32,
    /// Start time of the process in clock ticks since boot. `None` without `/proc`.
    pub started_ticks: Option<u64>,
    /// Boot id of the machine, which differs after every boot. Empty if unavailable.
    pub boot: String,
}

impl ProcessId {
    #[must_use]
    pub fn this() -> Self {
        let pid = std::process::id();
        Self { pid, started_ticks: stat(pid).map(|stat| stat.started_ticks), boot: boot() }
    }

    #[must_use]
    pub fn is_alive(&self) -> bool {
        if self.boot != boot() {
            return false;
        }
        match self.started_ticks {
            Some(ticks) => stat(self.pid).is_some_and(|stat| stat.started_ticks == ticks && !stat.ended),
            None => i32::try_from(self.pid).is_ok_and(|pid| signal::kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)),
        }
    }
}

struct Stat {
    started_ticks: u64,
    /// True if the process has ended, but was not yet reaped by its parent.
    ended: bool,
}

/// Parses `/proc/PID/stat`, see proc_pid_stat(5). Fields are counted after the last `)`, since the process name may contain any character.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    // The state is field 3, starttime field 22.
    Some(Stat { started_ticks: fields.nth(18)?.parse().ok()?, ended: matches!(state, "Z" | "X") })
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn living_and_dead_processes_are_distinguished() {
        let this = ProcessId::this();
        assert!(this.is_alive());
        assert!(!ProcessId { boot: "another".into(), ..this.clone() }.is_alive());
        if let Some(ticks) = this.started_ticks {
            assert!(!ProcessId { started_ticks: Some(ticks + 1), ..this }.is_alive());
        }

        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let process = ProcessId { pid, started_ticks: stat(pid).map(|stat| stat.started_ticks), boot: boot() };
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
