//! The program: one thread, a task a stream, a task for all changes of the namespace.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::to_vec;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::codec::{Encoder, FramedRead};
use tokio_util::sync::CancellationToken;

use super::frame::{Codec, Frame};
use super::links::{Links, Path as LinkPath, Way};
use super::probe::{self, Sink};
use super::streams::{Carrier, Fate, Streams};
use super::verbs::{Answer, Refusal, Request, VERSION};
use super::{clock, disk, guard, names, traffic};
use crate::cluster::Pings;
use crate::removal::Layer;

/// Frames that wait to be written.
pub(super) const QUEUE: usize = 64;
/// Connections that may be accepted and not yet over. Others wait in the kernel.
const ACCEPTED: usize = 256;
/// The runner's lease of a link, at the least: a probe must not shorten it. It is renewed well before.
const GUEST_MS: u64 = 10_000;

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
    SetLinks(u32, Vec<LinkPath>, u64, u64),
    Links(u32),
    Sink(u32, Option<Way>, u64),
    Sunk(u32, u16),
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
        disk: disk::Desk::default(),
        clock: clock::Desk::default(),
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
    if !Layer::Supervisor.works() {
        return served;
    }
    for path in &service.sockets {
        let _ = std::fs::remove_file(path);
    }
    let (healed, done) = oneshot::channel();
    if changes.send(Change::Heal(healed)).await.is_ok() {
        let _ = done.await;
    }
    service.disk.heal();
    service.clock.heal();
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
    let mut sinks: HashMap<u16, JoinHandle<io::Result<f64>>> = HashMap::new();
    while let Some(change) = asked.recv().await {
        let (id, outcome) = match change {
            Change::Guard(id, guard) => {
                let installed = install(&guard).await.map(|()| Answer::Done);
                spawn_answer(&out, id, std::future::ready(installed));
                // Nobody waits for it yet. Whether it can be done is asked again by whoever needs it.
                let _ = links.prepare().await;
                continue;
            }
            Change::SetLinks(id, paths, seed, lease_ms) => (id, links.set(paths, seed, lease_ms).await.map(|()| Answer::Done)),
            Change::Links(id) => (id, links.in_force().map(Answer::Links)),
            Change::Sink(id, like, during_ms) => (id, sink(&mut links, &mut sinks, like, during_ms).await),
            Change::Sunk(id, port) => {
                links.leave(port);
                let measuring = sinks.remove(&port);
                spawn_answer(&out, id, async move {
                    let measured = measuring.ok_or_else(|| io::Error::other("nothing is measured there"))?;
                    measured.await.map_err(io::Error::other)?.map(Answer::Sunk)
                });
                continue;
            }
            Change::Heal(healed) => {
                // What cannot be mended now the kernel mends when the lease is over.
                links.end().await;
                let _ = healed.send(());
                return;
            }
        };
        // Not waited for: healing must not depend on anybody who reads.
        spawn_answer(&out, id, std::future::ready(outcome));
    }
}

fn spawn_answer(out: &mpsc::Sender<Frame>, id: u32, outcome: impl Future<Output = io::Result<Answer>> + Send + 'static) {
    let out = out.clone();
    tokio::spawn(async move {
        let outcome = outcome.await;
        let _ = out.send(answer(id, outcome)).await;
    });
}

async fn sink(
    links: &mut Links,
    sinks: &mut HashMap<u16, JoinHandle<io::Result<f64>>>,
    like: Option<Way>,
    during_ms: u64,
) -> io::Result<Answer> {
    let sink = Sink::open()?;
    let port = sink.port()?;
    if let Some(way) = like {
        links.invite(port, way, GUEST_MS.saturating_add(during_ms)).await?;
    }
    let measure = probe::apart(move || sink.measure(Duration::from_millis(during_ms)));
    sinks.insert(port, tokio::spawn(measure));
    Ok(Answer::Sink { port })
}

fn pings(Pings { sent, answered, duplicates, reordered }: Pings) -> Answer {
    let answered_ns = answered.iter().map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)).collect();
    Answer::Pings { sent, answered_ns, duplicates, reordered }
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
    disk: disk::Desk,
    clock: clock::Desk,
}

impl Service {
    async fn asked(&mut self, id: u32, body: &[u8]) {
        let reply =
            match serde_json::from_slice(body) {
                Ok(Request::Hello) => Ok(Answer::Hello { version: VERSION }),
                Ok(Request::Traffic) => traffic::traffic().map(|(received, sent)| Answer::Traffic { received, sent }),
                Ok(Request::Listen { path }) => self.listen(id, path).map(|()| Answer::Done),
                Ok(Request::Dial { stream, to }) => {
                    let (carrier, out) = (self.streams.open(stream), self.out.clone());
                    tokio::spawn(async move { dial(id, carrier, to, out).await });
                    return;
                }
                Ok(Request::Guard(guard)) => return self.change(Change::Guard(id, guard)).await,
                Ok(Request::Clock(ask)) => self.clock.ask(ask).map(Answer::Clock),
                Ok(Request::Disk(ask)) => return self.ask_about_the_disk(id, ask),
                Ok(Request::SetLinks { paths, seed, lease_ms }) => return self.change(Change::SetLinks(id, paths, seed, lease_ms)).await,
                Ok(Request::Links) => return self.change(Change::Links(id)).await,
                Ok(Request::Sink { like, during_ms }) => return self.change(Change::Sink(id, like, during_ms)).await,
                Ok(Request::Sunk { port }) => return self.change(Change::Sunk(id, port)).await,
                Ok(Request::Ping { to, port, how }) => {
                    return spawn_answer(&self.out, id, async move { probe::apart(move || probe::ping(to, port, how)).await.map(pings) });
                }
                Ok(Request::Pour { to, during_ms }) => {
                    let during = Duration::from_millis(during_ms);
                    return spawn_answer(&self.out, id, async move {
                        probe::apart(move || probe::pour(to, during)).await.map(|()| Answer::Done)
                    });
                }
                Err(error) => Err(io::Error::other(error.to_string())),
            };
        let out = self.out.clone();
        // The reader of the wire waits for nobody who writes it.
        tokio::spawn(async move { out.send(answer(id, reply)).await });
    }

    async fn change(&self, change: Change) {
        let _ = self.changes.send(change).await;
    }

    fn ask_about_the_disk(&mut self, id: u32, ask: disk::Ask) {
        let (told, out) = (self.disk.ask(ask), self.out.clone());
        tokio::spawn(async move {
            let told = told.await.unwrap_or_else(|_| Err(io::Error::other("nobody works on the disk")));
            out.send(answer(id, told.map(Answer::Disk))).await
        });
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
