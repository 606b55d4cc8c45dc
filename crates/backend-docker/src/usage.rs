//! Resource usage of a container, as the engine counts it.

use std::time::Duration;

use bollard::query_parameters::{StatsOptionsBuilder, TopOptionsBuilder};
use futures_util::StreamExt;

use super::engine::Engine;
use super::error::words;
use chaosrun_cluster::{ClusterError, NodeUsage, ProcessInfo};

/// Returns the current resource usage of a container.
pub(super) async fn usage(engine: &Engine, container: &str) -> Result<NodeUsage, ClusterError> {
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let stats = engine.api().stats(container, Some(options)).next().await;
    let stats = stats.ok_or_else(|| ClusterError::Engine("the engine returned no statistics".into()))?;
    let stats = stats.map_err(|error| ClusterError::Engine(words(&error)))?;
    let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage).unwrap_or_default();
    let memory = stats.memory_stats.unwrap_or_default();
    // Cached file pages that the kernel can drop do not count as memory of the program. Versions 1 and 2 of control groups name this value
    // differently.
    let dropped = memory.stats.as_ref().and_then(|stats| stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")));
    let dropped = dropped.copied().unwrap_or_default();
    let processes = stats.pids_stats.and_then(|pids| pids.current).unwrap_or_default();
    Ok(NodeUsage {
        cpu: Duration::from_nanos(cpu),
        memory: memory.usage.unwrap_or_default().saturating_sub(dropped),
        memory_limit: memory.limit,
        processes: u32::try_from(processes).unwrap_or(u32::MAX),
        network: None,
    })
}

/// Returns the processes of the container, listed by `ps` on the host of the engine.
pub(super) async fn processes(engine: &Engine, container: &str) -> Result<Vec<ProcessInfo>, ClusterError> {
    let options = TopOptionsBuilder::new().ps_args("-eo pid,ppid,user,time,etime,args").build();
    let top = engine.api().top_processes(container, Some(options)).await;
    let top = top.map_err(|error| ClusterError::Engine(words(&error)))?;
    Ok(top.processes.unwrap_or_default().iter().filter_map(|row| process(row)).collect())
}

fn process(row: &[String]) -> Option<ProcessInfo> {
    let [pid, parent, user, cpu, elapsed, command @ ..] = row else { return None };
    Some(ProcessInfo {
        pid: pid.parse().ok()?,
        parent: parent.parse().ok()?,
        user: user.clone(),
        cpu: clock(cpu)?,
        elapsed: clock(elapsed)?,
        command: command.join(" "),
    })
}

/// Parses a CPU time in the format of `ps`: `[[days-]hours:]minutes:seconds`.
pub(super) fn clock(text: &str) -> Option<Duration> {
    let (days, rest) = text.split_once('-').unwrap_or(("0", text));
    let mut seconds: u64 = 0;
    for part in rest.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    Some(Duration::from_secs(days.parse::<u64>().ok()?.checked_mul(86_400)?.checked_add(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_ps_are_parsed() {
        let row = ["7", "1", "root", "00:01:02", "1-02:03:04", "etcd", "--name=a"].map(str::to_owned);
        let process = process(&row).unwrap();
        assert_eq!((process.pid, process.parent, process.user.as_str()), (7, 1, "root"));
        assert_eq!(process.cpu, Duration::from_secs(62));
        assert_eq!(process.elapsed, Duration::from_secs(86_400 + 7384));
        assert_eq!(process.command, "etcd --name=a");
        assert_eq!(clock("05:07"), Some(Duration::from_secs(307)));
        assert_eq!(clock("x"), None);
    }
}
