//! Endpoints for `docker stats` and `docker top`: resource usage of a node, and processes of a node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::container::Container;
use super::describe::{QueryFlag, query};
use super::engine::ProxyState;
use super::problem::EngineProblem;
use chaosrun_cluster::{NodeUsage, ProcessInfo};

/// Interval between two measurements of a node. An engine uses the same interval.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
struct StatsQuery {
    #[serde(default = "yes")]
    stream: QueryFlag,
    #[serde(default, rename = "one-shot")]
    one_shot: QueryFlag,
}

const fn yes() -> QueryFlag {
    QueryFlag(true)
}

/// Measurement of the resource usage of a node and of the machine.
#[derive(Debug, Clone)]
struct Sample {
    at: Timestamp,
    usage: NodeUsage,
    /// Processor time of the whole machine, in nanoseconds.
    machine: u64,
}

impl Sample {
    /// Measures the resource usage of a node. A node that is not running uses nothing.
    async fn take(engine: &ProxyState, node: &str) -> Self {
        let usage = engine.cluster.usage(node).await.unwrap_or_default();
        Self { at: Timestamp::now(), usage, machine: machine() }
    }
}

fn machine() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // Fields: user nice system idle iowait irq softirq steal, in hundredths of a second.
    line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}

pub(super) async fn stats(engine: &Arc<ProxyState>, container: &Container, text: &str) -> Result<Response, EngineProblem> {
    let asked: StatsQuery = query(text)?;
    let name = &container.node.name;
    if !asked.stream.0 {
        let first = if asked.one_shot.0 { None } else { Some(Sample::take(engine, name).await) };
        if first.is_some() {
            tokio::time::sleep(EVERY).await;
        }
        let last = Sample::take(engine, name).await;
        return Ok(Json(figures(container, first.as_ref(), &last)).into_response());
    }
    let state = (Arc::clone(engine), container.clone(), None::<Sample>);
    let stream = futures_util::stream::unfold(state, |(engine, container, before)| async move {
        if before.is_some() {
            tokio::select! {
                () = engine.token.cancelled() => return None,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        let now = Sample::take(&engine, &container.node.name).await;
        let line = format!("{}\n", figures(&container, before.as_ref(), &now));
        Some((Ok::<_, Infallible>(Bytes::from(line)), (engine, container, Some(now))))
    });
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response())
}

fn figures(container: &Container, before: Option<&Sample>, now: &Sample) -> Value {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = |sample: &Sample| {
        json!({
            "cpu_usage": { "total_usage": nanos(sample.usage.cpu), "usage_in_kernelmode": 0, "usage_in_usermode": nanos(sample.usage.cpu) },
            "system_cpu_usage": sample.machine,
            "online_cpus": processors,
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        })
    };
    let nothing = json!({ "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 }, "throttling_data": {} });
    let usage = &now.usage;
    let mut figures = json!({
        "read": now.at.to_string(),
        "preread": before.map_or_else(|| "0001-01-01T00:00:00Z".into(), |before| before.at.to_string()),
        "pids_stats": { "current": usage.processes },
        "blkio_stats": { "io_service_bytes_recursive": null },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(now),
        "precpu_stats": before.map_or(nothing, cpu),
        "memory_stats": { "usage": usage.memory, "stats": { "cache": 0 }, "limit": usage.memory_limit.unwrap_or(0) },
        "name": format!("/{}", container.node.name),
        "id": container.id,
    });
    if let Some((received, sent)) = usage.network {
        figures["networks"] = json!({ "eth0": {
            "rx_bytes": received, "rx_packets": 0, "rx_errors": 0, "rx_dropped": 0,
            "tx_bytes": sent, "tx_packets": 0, "tx_errors": 0, "tx_dropped": 0,
        } });
    }
    figures
}

#[derive(Debug, Default, Deserialize)]
struct TopQuery {
    #[serde(default)]
    ps_args: String,
}

pub(super) async fn top(engine: &ProxyState, container: &Container, text: &str) -> Result<Response, EngineProblem> {
    let asked: TopQuery = query(text)?;
    let found = engine.cluster.processes(&container.node.name).await;
    let found = found.map_err(|error| engine.failed(&error, &container.id, "the processes cannot be listed"))?;
    let columns = columns(&asked.ps_args)?;
    let rows: Vec<Vec<String>> = found.iter().map(|process| columns.iter().map(|column| column.of(process)).collect::<Vec<_>>()).collect();
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    Ok(Json(json!({ "Titles": titles, "Processes": rows })).into_response())
}

/// Column of the process table that `docker top` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    title: &'static str,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    User,
    Pid,
    Parent,
    Cpu,
    Elapsed,
    Command,
    Name,
    /// Column that the proxy does not support.
    Unknown,
}

impl Column {
    const fn new(title: &'static str, what: What) -> Self {
        Self { title, what }
    }

    fn of(self, process: &ProcessInfo) -> String {
        match self.what {
            What::User => process.user.clone(),
            What::Pid => process.pid.to_string(),
            What::Parent => process.parent.to_string(),
            What::Cpu => clock(process.cpu),
            What::Elapsed => clock(process.elapsed),
            What::Command => process.command.clone(),
            What::Name => {
                let program = process.command.split(' ').next().unwrap_or_default();
                program.rsplit('/').next().unwrap_or_default().to_owned()
            }
            What::Unknown => "?".into(),
        }
    }
}

const FULL: [Column; 8] = [
    Column::new("UID", What::User),
    Column::new("PID", What::Pid),
    Column::new("PPID", What::Parent),
    Column::new("C", What::Unknown),
    Column::new("STIME", What::Unknown),
    Column::new("TTY", What::Unknown),
    Column::new("TIME", What::Cpu),
    Column::new("CMD", What::Command),
];

/// Returns the columns selected by the arguments of `ps`: those of the option `-o`, otherwise the columns of `ps -ef`.
fn columns(arguments: &str) -> Result<Vec<Column>, EngineProblem> {
    let mut words = arguments.split_whitespace();
    let mut listed = None;
    while let Some(word) = words.next() {
        // Option letters may be combined: `-eo pid,args`.
        let letters = word.trim_start_matches('-');
        if let Some(place) = letters.find('o') {
            let inline = &letters[place + 1..];
            listed = if inline.is_empty() { words.next() } else { Some(inline) };
        }
    }
    let Some(listed) = listed else { return Ok(FULL.to_vec()) };
    let column = |name: &str| {
        let (title, what) = match name {
            "pid" => ("PID", What::Pid),
            "ppid" => ("PPID", What::Parent),
            "user" | "euser" | "uname" => ("USER", What::User),
            "time" | "cputime" => ("TIME", What::Cpu),
            "etime" => ("ELAPSED", What::Elapsed),
            "args" | "command" => ("COMMAND", What::Command),
            "cmd" => ("CMD", What::Command),
            "comm" | "ucmd" => ("COMMAND", What::Name),
            _ => {
                return Err(EngineProblem::internal(format!("ps: exit status 1: error: unknown user-defined format specifier \"{name}\"")));
            }
        };
        Ok(Column::new(title, what))
    };
    listed.split(',').map(column).collect()
}

/// Formats a duration as `HH:MM:SS`, like `ps` does.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_match_the_arguments() {
        let titles = |arguments: &str| -> Vec<&str> { columns(arguments).unwrap().iter().map(|column| column.title).collect() };
        assert_eq!(titles(""), ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(titles("aux").len(), 8);
        assert_eq!(titles("-eo pid,comm"), ["PID", "COMMAND"]);
        assert_eq!(titles("-e -o args"), ["COMMAND"]);
        assert!(columns("-o nothing").is_err());
        assert_eq!(clock(Duration::from_secs(3661)), "01:01:01");
    }
}
