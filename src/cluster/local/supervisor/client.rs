//! The runner's side of the supervisor: requests from any task, answers and exits by channel.

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

use futures_util::StreamExt;
use nix::errno::Errno;
use thiserror::Error;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::Supervisor;
use super::channel::{self, Stdio};
use super::wire::{MAX_FRAME, Reach, Report, Request, SpawnFrame};

/// How the first process of a tree ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
    /// The supervisor is gone, and the process with it.
    Lost,
}

impl Ended {
    /// As a shell reports it: 128 + signal.
    #[must_use]
    pub const fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::Lost => 128 + nix::libc::SIGKILL,
        }
    }
}

/// What shall be run.
pub struct Spawn {
    /// Searched on the PATH of `env` when it has no slash.
    pub program: OsString,
    /// The first is what the program is called, not what is executed.
    pub argv: Vec<OsString>,
    /// All of it: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    pub dir: PathBuf,
    pub stdio: Stdio,
    /// From [`SupervisorClient::new_tree`].
    pub tree: u64,
    /// See [`SupervisorClient::new_scope`].
    pub scope: u64,
    /// A tree it dies and pauses with.
    pub with: Option<u64>,
    /// Whether what it leaves behind may live on after its exit (until its tree or scope is killed).
    pub linger: bool,
    /// Called when the first process has been reaped, on the client's task: it must not block.
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

/// Told once, on the client's task: it must not block.
pub type OnExit = Box<dyn FnOnce(Ended) + Send>;

/// The pid, or why there is none.
type Begun = oneshot::Sender<Result<u32, SpawnError>>;

enum Ask {
    Spawn {
        frame: SpawnFrame,
        stdio: Stdio,
        reply: Begun,
        on_exit: OnExit,
    },
    /// With what its `Done` answers; none when nobody waits.
    Plain {
        request: Request,
        number: u64,
        reply: Option<oneshot::Sender<i32>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// A cheap, cloneable handle. When the last one is dropped everything that was started ends.
#[derive(Clone)]
pub struct SupervisorClient {
    asks: mpsc::UnboundedSender<Ask>,
    numbers: Arc<AtomicU64>,
    /// The first half of every marker of this run.
    nonce: Arc<str>,
    pid: u32,
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
        tokio::spawn(listen(read, reports_tx));
        let pid = child.id();
        let nonce: Arc<str> = nonce.into();
        let actor =
            Actor { write, child, nonce: Arc::clone(&nonce), starting: HashMap::new(), live: HashMap::new(), asked: HashMap::new() };
        tokio::spawn(actor.run(rx, reports));
        Ok(Self { asks, numbers: Arc::new(AtomicU64::new(1)), nonce, pid })
    }

    /// Pid of the supervisor: every process it was asked for descends from it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A number under which trees are killed together. Once killed, nothing can be started in it.
    #[must_use]
    pub fn new_scope(&self) -> u64 {
        self.number()
    }

    /// A number for a process to be started and all that will descend from it. Good for one spawn.
    #[must_use]
    pub fn new_tree(&self) -> u64 {
        self.number()
    }

    /// What the environment of a tree's processes carries under [`super::MARKER`].
    #[must_use]
    pub fn marker(&self, tree: u64) -> String {
        format!("{}{tree:016x}", self.nonce)
    }

    /// What the markers of all trees begin with.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Starts a process and gives its pid.
    ///
    /// # Errors
    /// [`SpawnError::Refused`] with the program's name and the reason; [`SpawnError::Gone`] without a supervisor.
    pub async fn spawn(&self, spawn: Spawn) -> Result<u32, SpawnError> {
        let tree = spawn.tree;
        let frame = SpawnFrame {
            tree,
            scope: spawn.scope,
            with: spawn.with.unwrap_or(0),
            linger: spawn.linger,
            program: spawn.program.into_vec(),
            argv: spawn.argv.into_iter().map(OsString::into_vec).collect(),
            env: spawn.env.into_iter().map(|(name, value)| (name.into_vec(), value.into_vec())).collect(),
            dir: spawn.dir.into_os_string().into_vec(),
            marker: self.marker(tree).into_bytes(),
        };
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Spawn { frame, stdio: spawn.stdio, reply, on_exit: spawn.on_exit };
        self.asks.send(ask).map_err(|_| SpawnError::Gone)?;
        answer.await.map_err(|_| SpawnError::Gone)?
    }

    /// Delivers a signal by its number.
    ///
    /// # Errors
    /// The system's error number: `ESRCH` when there is nobody, or no supervisor.
    pub async fn signal(&self, tree: u64, signal: i32, reach: Reach) -> Result<(), Errno> {
        match self.done(|request| Request::Signal { request, tree, signal, reach }).await {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw(errno)),
            None => Err(Errno::ESRCH),
        }
    }

    /// SIGKILL to everything of a tree and to what lives with it; returns when nothing is left.
    pub async fn kill(&self, tree: u64) {
        // Without a supervisor there is nothing left already.
        let _ = self.done(|request| Request::Kill { request, tree }).await;
    }

    /// The same for all trees of a scope at once, for ever: what is asked for in it later is refused.
    pub async fn kill_scope(&self, scope: u64) {
        // As above.
        let _ = self.done(|request| Request::KillScope { request, scope }).await;
    }

    /// The same without waiting.
    pub fn kill_now(&self, tree: u64) {
        let number = self.number();
        self.send(Request::Kill { request: number, tree }, number, None);
    }

    /// The same without waiting.
    pub fn kill_scope_now(&self, scope: u64) {
        let number = self.number();
        self.send(Request::KillScope { request: number, scope }, number, None);
    }

    /// The directory, which is there, is removed by the supervisor when the runner is gone, should it still be there.
    pub fn remove_at_end(&self, path: &Path) {
        self.send(Request::RemoveAtEnd { path: path.as_os_str().as_bytes().to_vec() }, 0, None);
    }

    /// Ends the supervisor and everything it started; returns when no process is left.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.asks.send(Ask::Close { reply }).is_ok() {
            // An error means it has closed already.
            let _ = closed.await;
        }
    }

    async fn done(&self, request: impl FnOnce(u64) -> Request) -> Option<i32> {
        let number = self.number();
        let (reply, answer) = oneshot::channel();
        self.send(request(number), number, Some(reply));
        answer.await.ok()
    }

    fn send(&self, request: Request, number: u64, reply: Option<oneshot::Sender<i32>>) {
        // An error means the supervisor is gone; who waits for the reply sees that by its channel.
        let _ = self.asks.send(Ask::Plain { request, number, reply });
    }
}

/// Passes reports on until the socket ends. A task of its own, so that the supervisor never waits for us to read while
/// we wait for it to read.
async fn listen(read: OwnedReadHalf, reports: mpsc::UnboundedSender<Report>) {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
    let mut frames = FramedRead::new(read, codec);
    while let Some(Ok(frame)) = frames.next().await {
        let Ok(report) = Report::decode(&frame) else { return };
        if reports.send(report).is_err() {
            return;
        }
    }
}

struct Actor {
    write: OwnedWriteHalf,
    child: Child,
    nonce: Arc<str>,
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
                    Some(ask) => if self.ask(ask).await.is_err() { break None },
                    None => break None,
                },
                report = reports.recv() => match report {
                    Some(report) => self.report(report),
                    None => break None,
                },
            }
        };
        // The end of our side is what the supervisor takes as the order to end all.
        let _ = self.write.shutdown().await;
        while let Some(report) = reports.recv().await {
            self.report(report);
        }
        // Its socket is closed, so it ends now; it leaves something behind only if it was killed itself.
        if !self.child.wait().is_ok_and(|status| status.success()) {
            sweep(&self.nonce);
        }
        for (_, on_exit) in self.live.drain() {
            on_exit(Ended::Lost);
        }
        if let Some(reply) = closed {
            // Nobody waits any more: fine.
            let _ = reply.send(());
        }
    }

    async fn ask(&mut self, ask: Ask) -> io::Result<()> {
        match ask {
            Ask::Spawn { frame, stdio, reply, on_exit } => {
                let tree = frame.tree;
                let Ok(bytes) = channel::framed(&Request::Spawn(frame).encode()) else {
                    let message = "the arguments and the environment are too long".into();
                    // The asker may have given up: fine.
                    let _ = reply.send(Err(SpawnError::Refused { errno: nix::libc::E2BIG, message }));
                    return Ok(());
                };
                self.starting.insert(tree, (reply, on_exit));
                self.write_with(&bytes, &stdio).await
            }
            Ask::Plain { request, number, reply } => {
                if let Some(reply) = reply {
                    self.asked.insert(number, reply);
                }
                self.write.write_all(&channel::framed(&request.encode())?).await
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
        // Wherever nobody listens for an answer any more, that is the listener's choice.
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
                    on_exit(if signal == 0 { Ended::Code(code) } else { Ended::Signal(signal) });
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

/// After a supervisor that was killed itself: its children died with it, their children are found by their marker, which begins
/// with `nonce`.
#[cfg(target_os = "linux")]
pub(crate) fn sweep(nonce: &str) {
    use super::family::{self, Marked};
    loop {
        let mut again = false;
        for process in family::all().filter(|process| !process.ended()) {
            match family::marker(process.pid) {
                Marked::As(marker) if marker.starts_with(nonce.as_bytes()) => {
                    let Ok(pid) = i32::try_from(process.pid) else { continue };
                    let pid = nix::unistd::Pid::from_raw(pid);
                    again |= nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).is_ok();
                }
                // Threads of the kernel, children of the second process, never have an environment.
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
pub(crate) fn sweep(_nonce: &str) {}
