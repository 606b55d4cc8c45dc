//! Workload of a cluster, as a measure of the effects on users: clients at a fixed rate, the history of all operations, and checks of the
//! history.
//!
//! Clients form an open loop: the rate fixes the due time of each operation in advance, and latency counts from the due time. A system that
//! hangs therefore cannot hide its latency by slowing down its clients. The seed fixes kind, key and value of the operations
//! ([`sequence`]).

pub mod sequence;

mod caller;
mod client;
mod collect;
mod http;
mod last;
mod operation;
mod program;

pub mod history;
pub mod stats;

pub mod check;
pub mod impact;

use std::collections::HashMap;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use caller::Caller;
use chaosrun_base::task;
use chaosrun_cluster::{Cluster, ExecRequest};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{HistoryModel, HistoryReport};
use chaosrun_expr::Context;
use chaosrun_expr::topology::{AddressView, node_context};
use chaosrun_scenario::model;
use chaosrun_scenario::model::{Driver, Model, WorkloadUse};
use client::WorkloadClient;
use collect::{Collector, micros};
use history::History;
use http::HttpCaller;
use program::{DriverProgram, Hello};
use sequence::{OperationVerb, Sequence};
pub use stats::{StatsReader, WorkloadStats};

#[cfg(test)]
mod tests;

/// File name of the history in the run directory. The file has one line per operation.
pub(crate) const HISTORY_FILE: &str = "history.jsonl";

/// Parameters for the start of a workload.
pub struct WorkloadConfig {
    pub spec: model::Workload,
    pub usage: WorkloadUse,
    /// Cluster with the nodes that the workload uses. A driver program starts on the same cluster.
    pub cluster: Arc<dyn Cluster>,
    pub seed: u64,
    /// Clock scale of the cluster file, as a value for templates.
    pub clock_scale: Option<f64>,
    pub emitter: Emitter,
    /// Cancels all operations, including the final reads.
    pub cancel: CancellationToken,
    /// Run directory. The history is written to this directory, which is also the working directory of a driver program.
    pub run_dir: PathBuf,
}

#[derive(Debug, Error)]
pub enum WorkloadError {
    #[error("workload `{workload}` can do nothing: its model `{model}` needs one of {needed}")]
    NothingToDo { workload: String, model: &'static str, needed: String },
    #[error("workload `{workload}` asks the role `{role}`, which has no nodes")]
    NoNodes { workload: String, role: String },
    #[error("the workload's driver could not be started: {problem}")]
    Driver { problem: String },
    #[error("the workload's `{what}` cannot be rendered: {problem}")]
    Template { what: String, problem: String },
}

/// Entry point for the start of workloads; see [`WorkloadStarter::start`].
#[derive(Debug)]
pub struct WorkloadStarter;

impl WorkloadStarter {
    /// Starts the clients of a workload. The clients run until [`WorkloadHandle::stop`].
    ///
    /// # Errors
    /// Returns an error if no operation of the model is declared, or a template cannot be rendered. A driver program that does not become
    /// ready is an error too.
    pub async fn start(config: WorkloadConfig) -> Result<WorkloadHandle, WorkloadError> {
        let WorkloadConfig { spec, usage, cluster, seed, clock_scale, emitter, cancel, run_dir } = config;
        let topology = cluster.topology();
        // Only traffic through the advertised addresses is subject to the faults of the trial.
        let context = |node: Option<&str>| node_context(topology, node, AddressView::Client, clock_scale, seed);
        let offers = |verb: OperationVerb| match &spec.driver {
            Driver::Http { operations, .. } => operations.contains_key(verb.as_str()),
            Driver::Program { .. } => true,
        };
        let sequence = Arc::new(Sequence::new(seed, spec.model, &usage, spec.keys, spec.value_size, offers));
        if sequence.is_empty() {
            let (looks, stores) = sequence::verbs(spec.model);
            let needed: Vec<_> = looks.iter().chain(stores).map(|verb| format!("`{}`", verb.as_str())).collect();
            return Err(WorkloadError::NothingToDo {
                workload: spec.name,
                model: history_model(spec.model).as_str(),
                needed: needed.join(", "),
            });
        }
        let program = match &spec.driver {
            Driver::Http { .. } => None,
            Driver::Program { command, env } => {
                let exec = ExecRequest {
                    command: http::render_all(command, "driver.command", &context(None))?,
                    env: http::render_map(env, "driver.env", &context(None))?,
                    dir: run_dir.clone(),
                    interactive: true,
                    ..ExecRequest::default()
                };
                let hello = Hello {
                    model: history_model(spec.model).as_str(),
                    seed,
                    clients: usage.clients,
                    keys: spec.keys,
                    timeout_ms: u64::try_from(spec.timeout.as_millis()).unwrap_or(u64::MAX),
                    nodes: program::nodes(topology),
                };
                Some(DriverProgram::start(&*cluster, exec, &hello, spec.timeout, &emitter).await?)
            }
        };
        let callers: Vec<Caller> = match (&spec.driver, &program) {
            (Driver::Http { role, operations }, _) => {
                let nodes: Vec<Context> = topology.role(role).map(|node| context(Some(&node.name))).collect();
                if nodes.is_empty() {
                    return Err(WorkloadError::NoNodes { workload: spec.name, role: role.clone() });
                }
                let caller = |index| Caller::Http(Box::new(HttpCaller::new(nodes.clone(), operations, index, spec.timeout)));
                (0..usage.clients.max(1)).map(caller).collect()
            }
            (Driver::Program { .. }, Some(program)) => (0..usage.clients.max(1)).map(|_| Caller::Program(program.caller())).collect(),
            (Driver::Program { .. }, None) => Vec::new(),
        };

        let start = Instant::now();
        let (window, stats) = stats::Window::new(usage.rate, start.into_std());
        let (done, results) = mpsc::unbounded_channel();
        let collector = Collector {
            name: spec.name.clone(),
            history: History { limit: spec.limit, ..History::new(spec.model) },
            sequence: Arc::clone(&sequence),
            window,
            timeout: spec.timeout,
            emitter: emitter.clone(),
        };
        let collector = task::spawn(collector.run(results));
        let stop = cancel.child_token();
        let clients = (0..)
            .zip(callers)
            .map(|(index, caller)| {
                let client = WorkloadClient {
                    index,
                    sequence: Arc::clone(&sequence),
                    model: spec.model,
                    start,
                    timeout: spec.timeout,
                    caller,
                    known: HashMap::new(),
                };
                task::spawn(client.run(done.clone(), stop.clone(), cancel.clone()))
            })
            .collect();
        Ok(WorkloadHandle {
            sequence,
            rate: usage.rate,
            timeout: spec.timeout,
            emitter,
            cancel,
            run_dir,
            stats,
            stop,
            running: Some(Tasks { clients, collector }),
            stopped: None,
            program,
        })
    }
}

/// Converts the workload model of a cluster file to the type used in events.
const fn history_model(model: Model) -> HistoryModel {
    match model {
        Model::Register => HistoryModel::Register,
        Model::Set => HistoryModel::Set,
        Model::Queue => HistoryModel::Queue,
        Model::Counter => HistoryModel::Counter,
        Model::Limit => HistoryModel::Limit,
        Model::None => HistoryModel::None,
    }
}

struct Tasks {
    clients: Vec<JoinHandle<WorkloadClient>>,
    collector: JoinHandle<History>,
}

struct Stopped {
    clients: Vec<WorkloadClient>,
    history: History,
}

/// Handle of a running workload.
pub struct WorkloadHandle {
    sequence: Arc<Sequence>,
    rate: f64,
    timeout: Duration,
    emitter: Emitter,
    cancel: CancellationToken,
    run_dir: PathBuf,
    stats: StatsReader,
    stop: CancellationToken,
    running: Option<Tasks>,
    stopped: Option<Stopped>,
    program: Option<DriverProgram>,
}

impl WorkloadHandle {
    /// Returns the live statistics, for probes.
    #[must_use]
    pub fn stats(&self) -> StatsReader {
        self.stats.clone()
    }

    /// Stops new operations and waits for running ones, at most for the workload's timeout. Repeated calls have no effect.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        let Some(Tasks { clients, collector }) = self.running.take() else { return };
        let mut ended = Vec::with_capacity(clients.len());
        for client in clients {
            match client.await {
                Ok(client) => ended.push(client),
                Err(error) => self.emitter.warn(format!("a client of the workload broke down: {error}")),
            }
        }
        match collector.await {
            Ok(history) => self.stopped = Some(Stopped { clients: ended, history }),
            Err(error) => self.emitter.warn(format!("the workload's history is lost: {error}")),
        }
    }

    /// Stops the clients, performs the reads after the heal, and returns the checked history. Every key that may hold a write is read until
    /// the answer is definite or `deadline` has passed. A set is read in full, and a queue is drained. The method then writes
    /// [`HISTORY_FILE`] and checks the history. The only emitted events are warnings.
    ///
    /// Problems without loss become warnings: stale reads, duplicate elements, and a history file that could not be written.
    pub async fn final_reads(mut self, deadline: Duration) -> HistoryReport {
        self.stop().await;
        let Some(Stopped { mut clients, mut history }) = self.stopped.take() else {
            let lost = History::new(Model::None);
            let mut report = check::report(&lost, check::CheckResult::default(), 0);
            report.why_unknown = Some("the history is lost".into());
            return report;
        };
        let deadline = Instant::now() + deadline;
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {}
            () = last::read_all(&mut clients, &mut history, &self.sequence, deadline) => {}
        }
        let gone = clients.iter().any(|client| client.caller.is_gone());
        drop(clients);
        if let Some(program) = self.program.take() {
            program.end().await;
        }

        let (sequence, rate, timeout) = (Arc::clone(&self.sequence), self.rate, self.timeout);
        let path = self.run_dir.join(HISTORY_FILE);
        // The check of hundreds of thousands of operations would block a runtime thread.
        let judged = task::spawn_blocking(move || {
            let written = std::fs::File::create(&path).and_then(|file| history.write(&sequence, BufWriter::new(file)));
            let impact_us = micros(impact::impact(&history.operations, rate, timeout));
            let checked = check::check(&history, &sequence);
            let anomalies = checked.anomalies.clone();
            let problem = written.err().map(|error| format!("the history could not be written to `{}`: {error}", path.display()));
            (check::report(&history, checked, impact_us), anomalies, problem)
        });
        match judged.await {
            Ok((mut report, anomalies, problem)) => {
                for anomaly in anomalies {
                    self.emitter.warn(format!("workload: {anomaly}"));
                }
                if let Some(problem) = problem {
                    self.emitter.warn(problem);
                }
                if gone && report.durable.is_none() {
                    report.why_unknown = Some("the workload's driver program ended before its time".into());
                }
                report
            }
            Err(error) => {
                let mut report = check::report(&History::new(Model::None), check::CheckResult::default(), 0);
                report.why_unknown = Some(format!("the check broke down: {error}"));
                report
            }
        }
    }
}

impl Drop for WorkloadHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for WorkloadHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadHandle").field("rate", &self.rate).finish_non_exhaustive()
    }
}
