//! Client of the supervisor in the runner. Any task can send requests. Answers and exits arrive on channels.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use nix::errno::Errno;
use thiserror::Error;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::Supervisor;
use super::channel::{self, Stdio};
use super::wire::{Reach, Report, SpawnFrame, SupervisorRequest};
use chaosrun_base::frame;
use chaosrun_base::frame::Codec;
use chaosrun_base::task;

/// Exit status of the first process of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeExit {
    Code(i32),
    Signal(i32),
    /// The supervisor has ended, and the process ended with it.
    Lost,
}

impl TreeExit {
    /// Returns the exit code as a shell reports it: 128 plus the signal number if a signal ended the process.
    #[must_use]
    pub const fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::Lost => 128 + nix::libc::SIGKILL,
        }
    }
}

/// Description of a process that the supervisor starts.
pub struct Spawn {
    /// Program to execute. A name without a slash is searched on the PATH of `env`.
    pub program: OsString,
    /// Arguments of the process. The first argument is the name of the process, not the executed file.
    pub argv: Vec<OsString>,
    /// Complete environment of the process; no variables are inherited.
    pub env: Vec<(OsString, OsString)>,
    pub dir: PathBuf,
    pub stdio: Stdio,
    /// Number of the process tree, from [`SupervisorClient::new_tree`].
    pub tree: u64,
    /// Number of the scope, from [`SupervisorClient::new_scope`].
    pub scope: u64,
    /// Tree with which the new tree dies and pauses; `None` for an independent tree.
    pub with: Option<u64>,
    /// True if descendants may continue to run after the first process exits, until their tree or scope is killed.
    pub linger: bool,
    /// Callback for the exit of the first process, run on the task of the client. The callback must not block.
    pub on_exit: OnExit,
}

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn").field("argv", &self.argv).field("dir", &self.dir).finish_non_exhaustive()
    }
}

#[derive(Debug, Error)]
pub enum SpawnError {
    #[error("{message}")]
    Refused { errno: i32, message: String },
    #[error("the supervisor process has ended")]
    Gone,
}

/// Callback for the exit of a process, called once on the task of the client. The callback must not block.
pub type OnExit = Box<dyn FnOnce(TreeExit) + Send>;

/// Channel for the pid of a started process, or for the reason why the start failed.
type Begun = oneshot::Sender<Result<u32, SpawnError>>;

enum Ask {
    Spawn {
        frame: SpawnFrame,
        stdio: Stdio,
        reply: Begun,
        on_exit: OnExit,
    },
    /// Request without descriptors, with a channel for its `Done` if a caller waits.
    Plain {
        request: SupervisorRequest,
        number: u64,
        reply: Option<oneshot::Sender<i32>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// Handle of the supervisor. Cheap to clone. When the last clone is dropped, the supervisor ends all started processes.
#[derive(Clone)]
pub struct SupervisorClient {
    asks: mpsc::UnboundedSender<Ask>,
    numbers: Arc<AtomicU64>,
    /// Random text with which the markers of all trees of this run begin.
    nonce: Arc<str>,
    pid: u32,
    /// Cancelled when the supervisor ends before it was asked to.
    lost: CancellationToken,
}

impl fmt::Debug for SupervisorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorClient").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl SupervisorClient {
    pub(super) fn new(supervisor: Supervisor) -> io::Result<Self> {
        let Supervisor { socket, child, nonce } = supervisor;
        socket.set_nonblocking(true)?;
        let (read, write) = tokio::net::UnixStream::from_std(socket)?.into_split();
        let (asks, rx) = mpsc::unbounded_channel();
        let (reports_tx, reports) = mpsc::unbounded_channel();
        task::spawn(listen(read, reports_tx));
        let pid = child.id();
        let nonce: Arc<str> = nonce.into();
        let lost = CancellationToken::new();
        let actor = Actor {
            write,
            child,
            nonce: Arc::clone(&nonce),
            lost: lost.clone(),
            starting: HashMap::new(),
            live: HashMap::new(),
            asked: HashMap::new(),
        };
        task::spawn(actor.run(rx, reports));
        Ok(Self { asks, numbers: Arc::new(AtomicU64::new(1)), nonce, pid, lost })
    }

    /// Returns the pid of the supervisor, which is the ancestor of every started process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the supervisor has ended without a request to end.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Returns true if the supervisor has ended without a request to end.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a new scope number. All trees of a scope are killed together. After the kill the scope accepts no new process.
    #[must_use]
    pub fn new_scope(&self) -> u64 {
        self.number()
    }

    /// Returns a new tree number, for one process and all its descendants. A tree number is valid for one spawn.
    #[must_use]
    pub fn new_tree(&self) -> u64 {
        self.number()
    }

    /// Returns the value of the environment variable [`super::MARKER`] for the processes of a tree.
    #[must_use]
    pub fn marker(&self, tree: u64) -> String {
        format!("{}{tree:016x}", self.nonce)
    }

    /// Returns the random text with which the markers of all trees begin.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Starts a process. Returns its pid.
    ///
    /// # Errors
    /// Returns [`SpawnError::Refused`] with the name of the program and the reason, or [`SpawnError::Gone`] if the supervisor has ended.
    pub async fn spawn(&self, spawn: Spawn) -> Result<u32, SpawnError> {
        let tree = spawn.tree;
        let variables = spawn.env.into_iter().flat_map(|(name, value)| [name, value]);
        let words = [spawn.program, spawn.dir.into_os_string()].into_iter().chain(spawn.argv.iter().cloned()).chain(variables);
        let words: Vec<Vec<u8>> = words.map(OsString::into_vec).collect();
        if words.iter().any(|word| word.contains(&0)) {
            let message = format!("cannot run `{}`: a zero byte in its arguments or environment", String::from_utf8_lossy(&words[0]));
            return Err(SpawnError::Refused { errno: nix::libc::EINVAL, message });
        }
        let frame = SpawnFrame {
            tree,
            scope: spawn.scope,
            with: spawn.with.unwrap_or(0),
            linger: spawn.linger,
            marker: self.marker(tree),
            arguments: spawn.argv.len(),
            words: words.join(&0).into(),
        };
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Spawn { frame, stdio: spawn.stdio, reply, on_exit: spawn.on_exit };
        self.asks.send(ask).map_err(|_| SpawnError::Gone)?;
        answer.await.map_err(|_| SpawnError::Gone)?
    }

    /// Sends the signal with number `signal` to the processes of `tree` that `reach` selects.
    ///
    /// # Errors
    /// Returns the error number of the system: `ESRCH` if the process does not exist, or if the supervisor has ended.
    pub async fn signal(&self, tree: u64, signal: i32, reach: Reach) -> Result<(), Errno> {
        match self.done(|request| SupervisorRequest::Signal { request, tree, signal, reach }).await {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw(errno)),
            None => Err(Errno::ESRCH),
        }
    }

    /// Sends SIGKILL to all processes of a tree, and to the trees that die with it. Returns when no process is left.
    pub async fn kill(&self, tree: u64) {
        // If the supervisor has ended, no process is left either.
        let _ = self.done(|request| SupervisorRequest::Kill { request, tree }).await;
    }

    /// Kills all trees of a scope at once, and makes the scope refuse later starts.
    pub async fn kill_scope(&self, scope: u64) {
        // If the supervisor has ended, no process is left either.
        let _ = self.done(|request| SupervisorRequest::KillScope { request, scope }).await;
    }

    /// Requests the kill of a tree without waiting for the end of its processes.
    pub fn kill_now(&self, tree: u64) {
        let number = self.number();
        self.send(SupervisorRequest::Kill { request: number, tree }, number, None);
    }

    /// Requests the kill of all trees of a scope without waiting for the end of their processes.
    pub fn kill_scope_now(&self, scope: u64) {
        let number = self.number();
        self.send(SupervisorRequest::KillScope { request: number, scope }, number, None);
    }

    /// Registers an existing directory. The supervisor removes the directory after the runner has ended, if it still exists.
    pub fn remove_at_end(&self, path: &Path) {
        self.send(SupervisorRequest::RemoveAtEnd(Bytes::copy_from_slice(path.as_os_str().as_bytes())), 0, None);
    }

    /// Ends the supervisor and all processes that it started. Returns when no process is left.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.asks.send(Ask::Close { reply }).is_ok() {
            // An error means that the supervisor has closed already.
            let _ = closed.await;
        }
    }

    async fn done(&self, request: impl FnOnce(u64) -> SupervisorRequest) -> Option<i32> {
        let number = self.number();
        let (reply, answer) = oneshot::channel();
        self.send(request(number), number, Some(reply));
        answer.await.ok()
    }

    fn send(&self, request: SupervisorRequest, number: u64, reply: Option<oneshot::Sender<i32>>) {
        // An error means that the supervisor has ended, which callers notice because their reply channel closes.
        let _ = self.asks.send(Ask::Plain { request, number, reply });
    }
}

/// Forwards reports of the supervisor until the socket ends. Runs as a separate task, so that supervisor and client never block each other.
async fn listen(read: OwnedReadHalf, reports: mpsc::UnboundedSender<Report>) {
    let mut frames = FramedRead::new(read, Codec::default());
    while let Some(Ok(report)) = frames.next().await {
        if reports.send(report).is_err() {
            return;
        }
    }
}

struct Actor {
    write: OwnedWriteHalf,
    child: Child,
    nonce: Arc<str>,
    lost: CancellationToken,
    starting: HashMap<u64, (Begun, OnExit)>,
    live: HashMap<u64, OnExit>,
    asked: HashMap<u64, oneshot::Sender<i32>>,
}

impl Actor {
    async fn run(mut self, mut asks: mpsc::UnboundedReceiver<Ask>, mut reports: mpsc::UnboundedReceiver<Report>) {
        let closed = loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(Ask::Close { reply }) => break Some(reply),
                    Some(ask) => if self.ask(ask).await.is_err() { self.lost.cancel(); break None },
                    None => break None,
                },
                report = reports.recv() => match report {
                    Some(report) => self.report(report),
                    None => { self.lost.cancel(); break None }
                },
            }
        };
        // When this end of the socket closes, the supervisor ends all processes.
        let _ = self.write.shutdown().await;
        while let Some(report) = reports.recv().await {
            self.report(report);
        }
        // The supervisor has closed its socket, so it is about to end. It leaves processes behind only if it was killed.
        if !self.child.wait().is_ok_and(|status| status.success()) {
            sweep(&self.nonce);
        }
        for (_, on_exit) in self.live.drain() {
            on_exit(TreeExit::Lost);
        }
        if let Some(reply) = closed {
            // The caller may no longer be waiting.
            let _ = reply.send(());
        }
    }

    async fn ask(&mut self, ask: Ask) -> io::Result<()> {
        match ask {
            Ask::Spawn { frame, stdio, reply, on_exit } => {
                let tree = frame.tree;
                let mut bytes = BytesMut::new();
                if frame::encode(SupervisorRequest::Spawn(frame), &mut bytes).is_err() {
                    let message = "the arguments and the environment are too long".into();
                    // The caller may no longer be waiting.
                    let _ = reply.send(Err(SpawnError::Refused { errno: nix::libc::E2BIG, message }));
                    return Ok(());
                }
                self.starting.insert(tree, (reply, on_exit));
                self.write_with(&bytes, &stdio).await
            }
            Ask::Plain { request, number, reply } => {
                if let Some(reply) = reply {
                    self.asked.insert(number, reply);
                }
                let mut bytes = BytesMut::new();
                frame::encode(request, &mut bytes)?;
                self.write.write_all(&bytes).await
            }
            Ask::Close { .. } => Ok(()),
        }
    }

    async fn write_with(&mut self, frame: &[u8], stdio: &Stdio) -> io::Result<()> {
        let sent = loop {
            self.write.writable().await?;
            let stream = self.write.as_ref();
            match stream.try_io(Interest::WRITABLE, || channel::send_with(stream.as_fd(), frame, stdio)) {
                Ok(sent) => break sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        };
        self.write.write_all(&frame[sent..]).await
    }

    fn report(&mut self, report: Report) {
        // Callers may no longer be waiting for their answers, which is no error.
        match report {
            Report::Started { tree, pid } => {
                if let Some((reply, on_exit)) = self.starting.remove(&tree) {
                    self.live.insert(tree, on_exit);
                    let _ = reply.send(Ok(pid));
                }
            }
            Report::Failed { tree, errno, message } => {
                if let Some((reply, _)) = self.starting.remove(&tree) {
                    let _ = reply.send(Err(SpawnError::Refused { errno, message }));
                }
            }
            Report::Exited { tree, code, signal } => {
                if let Some(on_exit) = self.live.remove(&tree) {
                    on_exit(if signal == 0 { TreeExit::Code(code) } else { TreeExit::Signal(signal) });
                }
            }
            Report::Done { request, errno } => {
                if let Some(reply) = self.asked.remove(&request) {
                    let _ = reply.send(errno);
                }
            }
        }
    }
}

/// Kills the processes that a killed supervisor left behind. Its children died with it. Their descendants are found by their markers, which
/// begin with `nonce`.
#[cfg(target_os = "linux")]
pub fn sweep(nonce: &str) {
    use chaosrun_base::family;
    use chaosrun_base::family::Marked;
    loop {
        let mut again = false;
        for process in family::all().filter(|process| !process.ended()) {
            match family::marker(process.pid) {
                Marked::As(marker) if marker.starts_with(nonce.as_bytes()) => {
                    let Ok(pid) = i32::try_from(process.pid) else { continue };
                    let pid = nix::unistd::Pid::from_raw(pid);
                    again |= nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).is_ok();
                }
                // Kernel threads are children of the second process, and never have an environment.
                Marked::NotYet => again |= process.pid != 2 && process.parent != 2,
                Marked::As(_) | Marked::Not => {}
            }
        }
        if !again {
            return;
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn sweep(_nonce: &str) {}
