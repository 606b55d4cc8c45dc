//! Driver program of a workload: one process for all clients, with JSON lines on stdin and stdout (docs/driver.md).

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::WorkloadError;
use super::history::OperationOutcome;
use super::operation::{OperationCall, OperationReply};
use super::sequence::OperationVerb;
use chaosrun_base::task;
use chaosrun_cluster::{Cluster, ExecRequest, Running, Topology};
use chaosrun_event::emit::Emitter;

/// Version of the driver protocol, sent in the greeting.
const PROTOCOL: u32 = 1;
/// Longest time until a started driver must report that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Longest time until the driver must end after its stdin was closed.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Largest length of one line from the driver, in bytes.
const MAX_LINE: usize = 16 * 1024 * 1024;
/// Largest number of stored bytes of the driver's stderr, for the message about a failed driver.
const MAX_STDERR: usize = 64 * 1024;
/// Largest number of malformed lines from the driver that are reported. Further malformed lines are ignored.
const MAX_WARNINGS: u32 = 5;

/// Greeting: the first line that is sent to the driver.
#[derive(Debug, Serialize)]
pub(super) struct Hello<'a> {
    pub(super) model: &'a str,
    pub(super) seed: u64,
    pub(super) clients: u32,
    pub(super) keys: u32,
    pub(super) timeout_ms: u64,
    pub(super) nodes: Vec<Value>,
}

/// Returns the nodes for the greeting, each as JSON with name, role and advertised addresses.
pub(super) fn nodes(topology: &Topology) -> Vec<Value> {
    let node = |node: &chaosrun_cluster::PlacedNode| {
        let ports: IndexMap<_, _> = node.ports.iter().map(|(name, port)| (name, port.advertised.to_string())).collect();
        json!({ "name": node.name, "role": node.role, "ports": ports })
    };
    topology.nodes.iter().map(node).collect()
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    client: u32,
    op: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Value::is_null")]
    value: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<&'a Value>,
}

#[derive(Debug, Deserialize)]
struct Reply {
    id: u64,
    #[serde(rename = "type")]
    kind: ReplyKind,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    error: Option<String>,
    /// True, together with `fail`, if a compare-and-put found another value than expected, or if a rate limiter refused the request.
    #[serde(default)]
    mismatch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReplyKind {
    Ok,
    Fail,
    Info,
}

/// Senders for the replies to pending requests, by request id. The lock is held only for a lookup.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>;

/// Running driver program of a workload.
pub(super) struct DriverProgram {
    caller: ProgramCaller,
    running: Running,
    tasks: Vec<JoinHandle<()>>,
}

/// Caller that sends the operations of one client to the driver program.
#[derive(Clone)]
pub(super) struct ProgramCaller {
    lines: mpsc::Sender<Vec<u8>>,
    waiting: Waiting,
    next: Arc<AtomicU64>,
    gone: watch::Receiver<bool>,
    timeout: Duration,
}

impl DriverProgram {
    /// Starts the driver program, sends the greeting, and waits until the driver is ready.
    pub(super) async fn start(
        cluster: &dyn Cluster,
        exec: ExecRequest,
        hello: &Hello<'_>,
        timeout: Duration,
        emitter: &Emitter,
    ) -> Result<Self, WorkloadError> {
        let log = exec.dir.join("driver.log");
        let failed = |problem: String| WorkloadError::Driver { problem };
        let mut running = cluster.spawn(exec).await.map_err(|error| failed(error.to_string()))?;
        let stdin = running.stdin.take().ok_or_else(|| failed("it was given no stdin".into()))?;
        let stdout = std::mem::replace(&mut running.stdout, Box::new(tokio::io::empty()));
        let stderr = std::mem::replace(&mut running.stderr, Box::new(tokio::io::empty()));

        let (lines, queue) = mpsc::channel(1024);
        let (gone_tx, gone) = watch::channel(false);
        let (ready_tx, ready) = oneshot::channel();
        let waiting = Waiting::default();
        let tasks = vec![
            task::spawn(write(stdin, queue)),
            task::spawn(read(stdout, Arc::clone(&waiting), ready_tx, gone_tx, emitter.clone())),
            task::spawn(keep(stderr, log.clone())),
        ];
        let caller = ProgramCaller { lines, waiting, next: Arc::new(AtomicU64::new(1)), gone, timeout };
        let program = Self { caller, running, tasks };

        let mut greeting = json!({ "type": "hello", "protocol": PROTOCOL });
        if let (Some(greeting), Ok(Value::Object(hello))) = (greeting.as_object_mut(), serde_json::to_value(hello)) {
            greeting.extend(hello);
        }
        let _ = program.caller.lines.send(line(&greeting)).await;
        let problem = match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(Ok(Ok(()))) => return Ok(program),
            Ok(Ok(Err(problem))) => problem,
            Ok(Err(_)) => "it ended before it was ready".into(),
            Err(_) => format!("it did not say `{{\"type\":\"ready\"}}` within {} s", READY_WITHIN.as_secs()),
        };
        program.end().await;
        let words = last_line(&log).await;
        Err(failed(if words.is_empty() { problem } else { format!("{problem}: {words}") }))
    }

    pub(super) fn caller(&self) -> ProgramCaller {
        self.caller.clone()
    }

    /// Closes the stdin of the driver, and kills the driver if it does not end in time. All callers must be dropped before the call.
    pub(super) async fn end(self) {
        let Self { caller, mut running, tasks } = self;
        drop(caller);
        let mut tasks = tasks.into_iter();
        if let Some(writer) = tasks.next() {
            // The writer ends after the last caller is dropped, and closes stdin.
            if tokio::time::timeout(END_WITHIN, writer).await.is_err() {
                running.kill();
            }
        }
        if tokio::time::timeout(END_WITHIN, &mut running.exit).await.is_err() {
            running.kill();
            let _ = (&mut running.exit).await;
        }
        // The last output is still in the pipes. Processes that the driver left behind may hold the pipes open.
        for mut task in tasks {
            if tokio::time::timeout(END_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

impl ProgramCaller {
    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    pub(super) async fn call(&mut self, call: &OperationCall<'_>) -> OperationReply {
        if self.is_gone() {
            return OperationReply::failed("the driver program has ended");
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let expect = (call.verb == OperationVerb::Cas).then_some(&call.expect);
        let request = Request { id, client: call.client, op: call.verb.as_str(), key: call.key, value: &call.value, expect };
        let (reply, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, reply);
        let asked = tokio::time::timeout(self.timeout, async {
            if self.lines.send(line(&request)).await.is_err() {
                return OperationReply::failed("the driver program has ended");
            }
            match answer.await {
                Ok(reply) => judge(call.verb, reply),
                Err(_) => OperationReply::unanswered(call.verb, "the driver program ended"),
            }
        });
        let answer = asked.await;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        answer.unwrap_or_else(|_| OperationReply::unanswered(call.verb, "no answer in time"))
    }
}

fn judge(verb: OperationVerb, reply: Reply) -> OperationReply {
    let reads = matches!(verb, OperationVerb::Read | OperationVerb::Dequeue);
    match reply.kind {
        ReplyKind::Ok => OperationReply::acknowledged(reads.then_some(reply.value)),
        ReplyKind::Fail if matches!(verb, OperationVerb::Cas | OperationVerb::Check) && reply.mismatch => {
            OperationReply { outcome: OperationOutcome::Mismatch, read: Some(reply.value), problem: reply.error }
        }
        ReplyKind::Fail => OperationReply::failed(reply.error.unwrap_or_else(|| "refused".into())),
        ReplyKind::Info => OperationReply::unanswered(verb, reply.error.unwrap_or_else(|| "the driver cannot tell".into())),
    }
}

fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

async fn write(mut stdin: Box<dyn AsyncWrite + Send + Unpin>, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut lines) = queue.recv().await {
        // All pending requests are sent in one write.
        while let Ok(more) = queue.try_recv() {
            lines.extend(more);
        }
        if stdin.write_all(&lines).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
    let _ = stdin.shutdown().await;
}

async fn read(
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    waiting: Waiting,
    ready: oneshot::Sender<Result<(), String>>,
    gone: watch::Sender<bool>,
    emitter: Emitter,
) {
    let mut ready = Some(ready);
    let mut warnings = 0;
    let mut lines = FramedRead::new(stdout, LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(Ok(line)) = lines.next().await {
        if let Some(ready) = ready.take() {
            let _ = ready.send(greeted(&line));
            continue;
        }
        match serde_json::from_str::<Reply>(&line) {
            Ok(reply) => {
                let waiter = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&reply.id);
                // A reply with an unknown id came after the timeout of its request.
                if let Some(waiter) = waiter {
                    let _ = waiter.send(reply);
                }
            }
            Err(error) => {
                warnings += 1;
                if warnings <= MAX_WARNINGS {
                    emitter.warn(format!("the workload's driver said `{}`, which is no answer: {error}", shorten(&line)));
                }
            }
        }
    }
    let _ = gone.send(true);
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn greeted(line: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Greeting {
        #[serde(rename = "type")]
        kind: String,
        error: Option<String>,
    }
    match serde_json::from_str::<Greeting>(line) {
        Ok(greeting) if greeting.kind == "ready" => Ok(()),
        Ok(Greeting { error: Some(error), .. }) => Err(error),
        _ => Err(format!("its first line was `{}`, expected `{{\"type\":\"ready\"}}`", shorten(line))),
    }
}

fn shorten(line: &str) -> String {
    let mut short: String = line.chars().take(120).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

/// Stores the beginning of the driver's stderr and discards the rest, since a full pipe would block the driver.
async fn keep(mut stderr: Box<dyn AsyncRead + Send + Unpin>, log: std::path::PathBuf) {
    let mut file = tokio::fs::File::create(&log).await.ok();
    let mut buffer = vec![0; 4096];
    let mut left = MAX_STDERR;
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let kept = count.min(left);
        left -= kept;
        if let Some(file) = &mut file {
            let _ = file.write_all(&buffer[..kept]).await;
            let _ = file.flush().await;
        }
    }
}

async fn last_line(log: &Path) -> String {
    let text = tokio::fs::read(log).await.unwrap_or_default();
    String::from_utf8_lossy(&text).lines().rfind(|line| !line.trim().is_empty()).map(shorten).unwrap_or_default()
}
