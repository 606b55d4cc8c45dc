//! The program: one thread, a task a stream, a task for all changes of the namespace.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::to_vec;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::codec::{Encoder, FramedRead};
use tokio_util::sync::CancellationToken;

use super::frame::{Codec, Frame};
use super::links::{Cut, Links};
use super::streams::{Carrier, Fate, Streams};
use super::verbs::{Answer, Refusal, Request, VERSION};
use super::{guard, names, traffic};

/// Frames that wait to be written.
pub(super) const QUEUE: usize = 64;
/// Connections that may be accepted and not yet over. Others wait in the kernel.
const ACCEPTED: usize = 256;

/// Runs until stdin ends or SIGTERM comes.
///
/// # Errors
/// When stdin and stdout are not pipes, or what came over them is no frame.
pub fn run() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let served = runtime.block_on(async {
        let (stdin, stdout) = (owned(io::stdin())?, owned(io::stdout())?);
        serve(pipe::Receiver::from_owned_fd(stdin)?, pipe::Sender::from_owned_fd(stdout)?).await
    });
    runtime.shutdown_background();
    served
}

fn owned(of: impl AsFd) -> io::Result<OwnedFd> {
    of.as_fd().try_clone_to_owned()
}

/// What changes the namespace, in the order it was asked for.
enum Change {
    Guard(u32, guard::Guard),
    Cut(u32, Vec<Cut>, u64),
    Cuts(u32),
    Heal(oneshot::Sender<()>),
}

async fn serve(input: pipe::Receiver, output: pipe::Sender) -> io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let (out, frames) = mpsc::channel(QUEUE);
    let mut writer = tokio::spawn(write(output, frames, CancellationToken::new()));
    let (changes, asked) = mpsc::channel(QUEUE);
    tokio::spawn(keep(asked, out.clone()));
    let mut service = Service {
        streams: Streams::new(out.clone()),
        out,
        changes: changes.clone(),
        accepted: Arc::new(AtomicU32::new(0)),
        admit: Arc::new(Semaphore::new(ACCEPTED)),
        sockets: BTreeSet::new(),
    };
    let mut input = FramedRead::new(input, Codec);
    let served = loop {
        let frame = tokio::select! {
            frame = input.next() => frame,
            // Nobody reads what we say: as good as the end of stdin.
            _ = &mut writer => None,
            _ = terminated.recv() => None,
        };
        match frame {
            Some(Ok(Frame::Request(id, body))) => service.asked(id, &body).await,
            Some(Ok(frame)) => service.streams.arrived(frame),
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    for path in &service.sockets {
        let _ = std::fs::remove_file(path);
    }
    let (healed, done) = oneshot::channel();
    if changes.send(Change::Heal(healed)).await.is_ok() {
        let _ = done.await;
    }
    served
}

/// Writes all frames, several at a time when there are; ends when `cancel` does, or nobody reads.
pub(super) async fn write(mut to: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Frame>, cancel: CancellationToken) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let written = async {
        while let Some(frame) = frames.recv().await {
            Codec.encode(frame, &mut buffer)?;
            while buffer.len() < super::frame::MAX_PAYLOAD
                && let Ok(frame) = frames.try_recv()
            {
                Codec.encode(frame, &mut buffer)?;
            }
            to.write_all(&buffer).await?;
            to.flush().await?;
            buffer.clear();
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = written => outcome,
        () = cancel.cancelled() => Ok(()),
    };
    let _ = to.shutdown().await;
    outcome
}

fn answer(id: u32, answer: io::Result<Answer>) -> Frame {
    let answer: Result<Answer, Refusal> = answer.map_err(Refusal::from);
    Frame::Answer(id, Bytes::from(to_vec(&answer).unwrap_or_default()))
}

/// The task that changes the namespace. Never cancelled: it ends with the process, after it has healed.
async fn keep(mut asked: mpsc::Receiver<Change>, out: mpsc::Sender<Frame>) {
    let mut links = Links::default();
    while let Some(change) = asked.recv().await {
        let (id, outcome) = match change {
            Change::Guard(id, guard) => (id, install(&guard).await.map(|()| Answer::Done)),
            Change::Cut(id, cuts, lease_ms) => (id, links.cut(&cuts, lease_ms).await.map(|()| Answer::Done)),
            Change::Cuts(id) => (id, links.counted().await.map(Answer::Cuts)),
            Change::Heal(healed) => {
                // What cannot be mended now the kernel mends when the lease is over.
                let _ = links.mend().await;
                let _ = healed.send(());
                return;
            }
        };
        // Not waited for: healing must not depend on anybody who reads.
        tokio::spawn({
            let out = out.clone();
            async move { drop(out.send(answer(id, outcome)).await) }
        });
    }
}

async fn install(guard: &guard::Guard) -> io::Result<()> {
    guard::install(guard).await?;
    names::serve().await
}

struct Service {
    streams: Streams,
    out: mpsc::Sender<Frame>,
    changes: mpsc::Sender<Change>,
    /// The id of the last accepted stream; they are even.
    accepted: Arc<AtomicU32>,
    admit: Arc<Semaphore>,
    sockets: BTreeSet<PathBuf>,
}

impl Service {
    async fn asked(&mut self, id: u32, body: &[u8]) {
        let reply = match serde_json::from_slice(body) {
            Ok(Request::Hello) => Ok(Answer::Hello { version: VERSION }),
            Ok(Request::Traffic) => traffic::traffic().map(|(received, sent)| Answer::Traffic { received, sent }),
            Ok(Request::Listen { path }) => self.listen(id, path).map(|()| Answer::Done),
            Ok(Request::Dial { stream, to }) => {
                let (carrier, out) = (self.streams.open(stream), self.out.clone());
                tokio::spawn(async move { dial(id, carrier, to, out).await });
                return;
            }
            Ok(Request::Guard(guard)) => return self.change(Change::Guard(id, guard)).await,
            Ok(Request::Cut { cuts, lease_ms }) => return self.change(Change::Cut(id, cuts, lease_ms)).await,
            Ok(Request::Cuts) => return self.change(Change::Cuts(id)).await,
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let out = self.out.clone();
        // The reader of the wire waits for nobody who writes it.
        tokio::spawn(async move { out.send(answer(id, reply)).await });
    }

    async fn change(&self, change: Change) {
        let _ = self.changes.send(change).await;
    }

    fn listen(&mut self, id: u32, path: PathBuf) -> io::Result<()> {
        let listener = bind(&path)?;
        self.sockets.insert(path);
        let (streams, out) = (self.streams.clone(), self.out.clone());
        let (accepted, admit) = (Arc::clone(&self.accepted), Arc::clone(&self.admit));
        tokio::spawn(async move {
            // Never closed.
            while let Ok(permit) = Arc::clone(&admit).acquire_owned().await {
                // An error is that of a single connection, or of a lack that passes.
                let Ok((connection, _)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let stream = accepted.fetch_add(2, Ordering::Relaxed) + 2;
                let carrier = streams.open(stream);
                if out.send(Frame::Accepted(id, stream)).await.is_err() {
                    return;
                }
                tokio::spawn(async move {
                    carrier.carry(connection, Fate::default(), CancellationToken::new()).await;
                    drop(permit);
                });
            }
        });
        Ok(())
    }
}

/// A socket that everybody may connect to, in place of one that was left there.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

async fn dial(id: u32, mut carrier: Carrier, to: std::net::SocketAddr, out: mpsc::Sender<Frame>) {
    let connected = tokio::select! {
        connected = TcpStream::connect(to) => connected,
        () = carrier.abandoned() => return,
    };
    match connected {
        Ok(connection) => {
            // What is carried is forwarded as it comes, in pieces of its sender's choice.
            let _ = connection.set_nodelay(true);
            if out.send(answer(id, Ok(Answer::Done))).await.is_ok() {
                carrier.carry(connection, Fate::default(), CancellationToken::new()).await;
            }
        }
        Err(error) => {
            drop(carrier);
            let _ = out.send(answer(id, Err(error))).await;
        }
    }
}
