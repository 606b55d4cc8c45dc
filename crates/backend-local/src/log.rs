//! Log of a node: stdout and stderr go to one file, to which the process of the node appends directly.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use super::definition::NodeStartPlan;
use chaosrun_backend::tail;

/// Opens the log file of the node. Returns the file and its current length in bytes.
pub(super) fn open_log(plan: &NodeStartPlan) -> io::Result<(File, u64)> {
    let mut options = File::options();
    let options = options.append(true);
    let file = options.open(&plan.log_link).or_else(|_| options.create(true).open(&plan.log))?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

/// Returns the stdio of a node: an empty stdin, and the log file as stdout and stderr. No other process copies the output, so no line is
/// lost.
pub(super) fn stdio(log: File) -> io::Result<[OwnedFd; 3]> {
    let null = File::open("/dev/null")?;
    let second = log.try_clone()?;
    Ok([null.into(), log.into(), second.into()])
}

pub(super) fn with_log(text: &str, plan: &NodeStartPlan, from: u64) -> String {
    match tail::last_lines(&plan.log, from) {
        Some(lines) => format!("{text}; its log ends:\n{lines}"),
        None => format!("{text}; its log is empty"),
    }
}
