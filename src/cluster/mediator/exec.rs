//! `docker exec`: a command in a node, its streams carried over the upgraded connection.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::audit::Audit;
use super::describe::word;
use super::engine::{Container, Engine, empty, opaque};
use super::frames::{PIECE, Stream, frame};
use super::problem::Problem;
use crate::cluster::{ClusterError, Exec, Running};
use crate::event::NodeState;

/// Execs that are remembered; the oldest ended ones go first.
const REMEMBERED: usize = 1024;

/// How long output is awaited after the command itself has ended, since the last byte: somebody it left behind may hold
/// the pipe open for ever.
const DRAIN: Duration = Duration::from_millis(100);

/// The runtime's exit code for a command that cannot be executed.
const NOT_EXECUTABLE: i32 = 126;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    privileged: bool,
    user: Option<String>,
    working_dir: Option<String>,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Start {
    detach: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Running { pid: u32 },
    Ended { code: i32 },
}

/// One exec, from its creation to the end of the trial.
#[derive(Debug)]
struct Record {
    id: String,
    container: String,
    node: String,
    command: Vec<String>,
    config: Config,
    state: watch::Sender<State>,
}

/// All execs of a trial.
#[derive(Debug)]
pub(super) struct Execs {
    secret: String,
    next: AtomicU64,
    records: Mutex<IndexMap<String, Arc<Record>>>,
}

impl Execs {
    pub fn new(secret: String) -> Self {
        Self { secret, next: AtomicU64::new(1), records: Mutex::new(IndexMap::new()) }
    }

    fn add(&self, container: &Container, command: Vec<String>, config: Config) -> Result<String, Problem> {
        let id = opaque(&self.secret, "exec", &self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= REMEMBERED {
            let ended = records.values().position(|record| matches!(*record.state.borrow(), State::Ended { .. } | State::Created));
            let Some(place) = ended else {
                return Err(Problem::internal("too many commands are running in containers"));
            };
            records.shift_remove_index(place);
        }
        let record = Record {
            id: id.clone(),
            container: container.id.clone(),
            node: container.node.name.clone(),
            command,
            config,
            state: watch::channel(State::Created).0,
        };
        records.insert(id.clone(), Arc::new(record));
        Ok(id)
    }

    fn get(&self, id: &str) -> Result<Arc<Record>, Problem> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(id).cloned().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("No such exec instance: {id}")))
    }
}

fn read<T: for<'de> Deserialize<'de> + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))
}

pub(super) fn create(engine: &Engine, container: &Container, body: &[u8], audit: &mut Audit) -> Result<Response, Problem> {
    let mut config: Config = read(body)?;
    let command = config.cmd.take().unwrap_or_default();
    audit.detail(command.join(" "));
    if command.is_empty() {
        return Err(Problem::bad_request("No exec command specified"));
    }
    if config.privileged {
        return Err(Problem::new(StatusCode::FORBIDDEN, "access denied: privileged commands are not allowed on this engine"));
    }
    // Nodes have one user; the engine's own words for another.
    if let Some(user) = config.user.as_deref().filter(|user| !matches!(*user, "" | "0" | "root" | "0:0" | "root:root")) {
        return Err(Problem::bad_request(format!("unable to find user {user}: no matching entries in passwd file")));
    }
    runs(engine, container, &container.id)?;
    let id = engine.execs.add(container, command, config)?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": id }))).into_response())
}

fn runs(engine: &Engine, container: &Container, id: &str) -> Result<(), Problem> {
    let name = &container.node.name;
    match engine.status(name).state {
        NodeState::Running => Ok(()),
        NodeState::Paused => Err(Problem::conflict(format!("Container {name} is paused, unpause the container before exec"))),
        NodeState::Created | NodeState::Exited { .. } => Err(Problem::conflict(format!("Container {id} is not running"))),
    }
}

pub(super) fn start(engine: &Arc<Engine>, id: &str, mut request: Request<Bytes>, audit: &mut Audit) -> Result<Response, Problem> {
    let record = engine.execs.get(id).inspect_err(|_| audit.detail(id))?;
    audit.node(&record.node);
    audit.detail(record.command.join(" "));
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let asked: Start = read(request.body())?;
    let container = engine.find(&record.node)?;
    runs(engine, container, &container.id)?;
    // Whoever turns it from created to running is the one who runs it.
    let mine = record.state.send_if_modified(|state| {
        let created = *state == State::Created;
        if created {
            *state = State::Running { pid: 0 };
        }
        created
    });
    if !mine {
        return Err(Problem::conflict(format!("Error: Exec command {id} is already running")));
    }
    let session = Session { engine: Arc::clone(engine), record };
    if asked.detach {
        engine.tasks.spawn(async move { session.run(None, tokio::io::empty(), tokio::io::sink()).await });
        return Ok(empty(StatusCode::OK));
    }
    let content = HeaderValue::from_static("application/vnd.docker.raw-stream");
    let Some(upgrade) = upgrade else {
        // A client that does not upgrade gets the output as the body, and has no stdin.
        let (ours, theirs) = tokio::io::duplex(PIECE);
        engine.tasks.spawn(async move { session.run(None, tokio::io::empty(), ours).await });
        let stream = tokio_util::io::ReaderStream::new(theirs);
        return Ok((StatusCode::OK, [(header::CONTENT_TYPE, content)], Body::from_stream(stream)).into_response());
    };
    engine.tasks.spawn(async move {
        // Without an upgrade the client is gone, and the command runs all the same, as on an engine.
        match upgrade.await {
            Ok(upgraded) => {
                let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
                session.run(Some(()), reader, writer).await;
            }
            Err(_) => session.run(None, tokio::io::empty(), tokio::io::sink()).await,
        }
    });
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(header::CONTENT_TYPE, content);
    Ok(response)
}

/// One command and the connection it is attached to.
struct Session {
    engine: Arc<Engine>,
    record: Arc<Record>,
}

impl Session {
    /// `reader` is what the client types, when `attached`; `writer` takes the output.
    async fn run<R, W>(self, attached: Option<()>, reader: R, mut writer: W)
    where
        R: AsyncRead + Send + Unpin,
        W: AsyncWrite + Send + Unpin,
    {
        let config = &self.record.config;
        let interactive = attached.is_some() && config.attach_stdin;
        let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let node = self.engine.cluster.topology().node(&self.record.node).map(|node| node.dir.clone());
        let exec = Exec {
            command: self.record.command.clone(),
            env: config.env.iter().flatten().filter_map(pair).collect(),
            dir: config.working_dir.as_deref().filter(|dir| !dir.is_empty()).map(PathBuf::from).or(node).unwrap_or_default(),
            stdin: None,
            interactive,
        };
        let code = match self.engine.cluster.exec(&self.record.node, exec).await {
            Ok(running) => {
                self.record.state.send_replace(State::Running { pid: running.pid });
                self.carry(running, interactive, reader, &mut writer).await
            }
            Err(error) => {
                let text = self.refusal(&error);
                // The client may be gone already: its affair.
                let _ = write(&mut writer, config.tty, Stream::Stdout, text.as_bytes()).await;
                NOT_EXECUTABLE
            }
        };
        // Before the stream ends: a client asks for the code as soon as it does.
        self.record.state.send_replace(State::Ended { code });
        let _ = writer.shutdown().await;
    }

    fn refusal(&self, error: &ClusterError) -> String {
        let program = self.record.command.first().map_or("", String::as_str);
        let start = "OCI runtime exec failed: exec failed: unable to start container process";
        let known = match error {
            ClusterError::Io { source, .. } => Some(source.kind()),
            _ => None,
        };
        match known {
            Some(std::io::ErrorKind::NotFound) => format!("{start}: exec: \"{program}\": executable file not found in $PATH: unknown\r\n"),
            Some(std::io::ErrorKind::PermissionDenied) => format!("{start}: exec: \"{program}\": permission denied: unknown\r\n"),
            _ => {
                self.engine.emitter.warn(format!("a command could not be run in `{}`: {error}", self.record.node));
                format!("{start}: exec: \"{program}\": cannot be started: unknown\r\n")
            }
        }
    }

    /// Carries the streams until the command has ended and all it printed is passed on. Gives its exit code.
    async fn carry<R, W>(&self, running: Running, interactive: bool, reader: R, writer: &mut W) -> i32
    where
        R: AsyncRead + Send + Unpin,
        W: AsyncWrite + Send + Unpin,
    {
        let Running { stdin, stdout, stderr, exit, killer, .. } = running;
        let tty = self.record.config.tty;
        let typed = async {
            if let (true, Some(stdin)) = (interactive, stdin) {
                type_in(reader, stdin, tty).await;
            }
            // The end of the input is not the end of the command.
            std::future::pending::<Infallible>().await
        };
        let shown = Shown { tty, stdout: self.record.config.attach_stdout, stderr: self.record.config.attach_stderr };
        let (ended, watching) = watch::channel(false);
        let finish = async {
            let code = exit.await.unwrap_or(NOT_EXECUTABLE);
            ended.send_replace(true);
            code
        };
        let work = async { tokio::join!(finish, show(stdout, stderr, writer, shown, watching)).0 };
        tokio::select! {
            code = work => code,
            never = typed => match never {},
            () = self.engine.token.cancelled() => {
                killer();
                128 + nix::libc::SIGKILL
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    tty: bool,
    stdout: bool,
    stderr: bool,
}

/// Copies both streams, as they come, until they end, or until the command has `ended` and nothing more comes.
async fn show<O, E, W>(mut stdout: O, mut stderr: E, writer: &mut W, shown: Shown, mut ended: watch::Receiver<bool>)
where
    O: AsyncRead + Send + Unpin,
    E: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let mut first = vec![0_u8; PIECE];
    let mut second = vec![0_u8; PIECE];
    let (mut stdout_open, mut stderr_open) = (true, true);
    // A client that is gone does not stop the command: what it prints is read and dropped.
    let mut listening = true;
    while stdout_open || stderr_open {
        let over = *ended.borrow_and_update();
        let (stream, payload) = tokio::select! {
            read = stdout.read(&mut first), if stdout_open => {
                let read = read.unwrap_or(0);
                stdout_open = read > 0;
                (Stream::Stdout, &first[..read])
            }
            read = stderr.read(&mut second), if stderr_open => {
                let read = read.unwrap_or(0);
                stderr_open = read > 0;
                (Stream::Stderr, &second[..read])
            }
            // An error means the sender is gone, after it has said so.
            _ = ended.changed(), if !over => continue,
            () = tokio::time::sleep(DRAIN), if over => return,
        };
        let wanted = if stream == Stream::Stdout { shown.stdout } else { shown.stderr };
        if listening && wanted && !payload.is_empty() {
            listening = write(writer, shown.tty, stream, payload).await.is_ok();
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(writer: &mut W, tty: bool, stream: Stream, payload: &[u8]) -> std::io::Result<()> {
    if tty {
        writer.write_all(&with_returns(payload)).await?;
    } else {
        writer.write_all(&frame(stream, payload)).await?;
    }
    writer.flush().await
}

/// What a terminal's line discipline does on output: a carriage return before each line feed.
fn with_returns(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 16);
    for byte in payload {
        if *byte == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

/// Copies what the client types until it ends, then closes the command's stdin. There is no pseudo-terminal: with `tty`,
/// Enter ends a line and Ctrl-D ends the input, which is what a client in raw mode leaves to the other side.
async fn type_in<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut reader: R, mut stdin: W, tty: bool) {
    const END: u8 = 4;
    let mut buffer = vec![0_u8; PIECE];
    loop {
        let Ok(read @ 1..) = reader.read(&mut buffer).await else { return };
        let mut typed = &mut buffer[..read];
        let mut last = false;
        if tty {
            if let Some(place) = typed.iter().position(|byte| *byte == END) {
                typed = &mut typed[..place];
                last = true;
            }
            for byte in typed.iter_mut().filter(|byte| **byte == b'\r') {
                *byte = b'\n';
            }
        }
        // The command may have closed its stdin, or have ended.
        if stdin.write_all(typed).await.is_err() || stdin.flush().await.is_err() || last {
            return;
        }
    }
}

pub(super) fn resize(engine: &Engine, id: &str, audit: &mut Audit) -> Result<Response, Problem> {
    let record = engine.execs.get(id).inspect_err(|_| audit.detail(id))?;
    audit.node(&record.node);
    // There is no pseudo-terminal whose size could change.
    Ok(empty(StatusCode::OK))
}

pub(super) fn inspect(engine: &Engine, id: &str, audit: &mut Audit) -> Result<Response, Problem> {
    let record = engine.execs.get(id).inspect_err(|_| audit.detail(id))?;
    audit.node(&record.node);
    let state = *record.state.borrow();
    audit.detail(match state {
        State::Created => "created".to_owned(),
        State::Running { .. } => word(&NodeState::Running).to_owned(),
        State::Ended { code } => format!("exit code {code}"),
    });
    let (running, pid, code) = match state {
        State::Created => (false, 0, None),
        State::Running { pid } => (true, pid, None),
        State::Ended { code } => (false, 0, Some(code)),
    };
    let (program, arguments) = record.command.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    Ok(Json(json!({
        "ID": record.id,
        "Running": running,
        "ExitCode": code,
        "ProcessConfig": { "tty": record.config.tty, "entrypoint": program, "arguments": arguments, "privileged": false },
        "OpenStdin": record.config.attach_stdin,
        "OpenStderr": record.config.attach_stderr,
        "OpenStdout": record.config.attach_stdout,
        "CanRemove": false,
        "ContainerID": record.container,
        "DetachKeys": "",
        "Pid": pid,
    }))
    .into_response())
}
