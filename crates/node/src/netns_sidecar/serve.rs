//! Main program of the sidecar: one thread, one task per stream, and one task for all changes of the namespace.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::frame::SidecarFrame;
use super::links::{LinkEffects as LinkPath, LinkSelector, NamespaceLinks};
use super::probe::{self, Sink};
use super::streams::{Carrier, OpenStreams, StreamError};
use super::verbs::{SidecarRefusal, SidecarReply, SidecarRequest, VERSION};
use super::{clock, disk, guard, names, traffic};
use chaosrun_base::frame::{Codec, encode};
use chaosrun_base::removal::RemovalLayer;
use chaosrun_base::task;
use chaosrun_cluster::Pings;

/// Capacity of the queue of frames that wait to be written.
pub(super) const QUEUE: usize = 64;
/// Largest number of accepted connections that are open at the same time. Further connections wait in the kernel.
const ACCEPTED: usize = 256;
/// Time in milliseconds that is added to the duration of a probe to get the lease of its port. The rules of all links are renewed with this
/// lease too, so a short one would end the faults of other links early.
const GUEST_MS: u64 = 10_000;

/// Runs the sidecar until the end of stdin or until SIGTERM.
///
/// # Errors
/// Returns an error if stdin or stdout is not a pipe, or if an invalid frame arrives.
pub fn run() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let served = runtime.block_on(task::guard(async {
        let (stdin, stdout) = (owned(io::stdin())?, owned(io::stdout())?);
        serve(pipe::Receiver::from_owned_fd(stdin)?, pipe::Sender::from_owned_fd(stdout)?).await
    }));
    runtime.shutdown_background();
    served.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}

fn owned(of: impl AsFd) -> io::Result<OwnedFd> {
    of.as_fd().try_clone_to_owned()
}

/// Change of the namespace. Changes are done in the order of their requests.
enum Change {
    Guard(u32, guard::Guard),
    SetLinks(u32, Vec<LinkPath>, u64, u64),
    Links(u32),
    Sink(u32, Option<LinkSelector>, u64),
    Sunk(u32, u16),
    Heal(oneshot::Sender<()>),
}

async fn serve(input: pipe::Receiver, output: pipe::Sender) -> io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let (out, frames) = mpsc::channel(QUEUE);
    let mut writer = task::spawn(write(output, frames, CancellationToken::new()));
    let (changes, asked) = mpsc::channel(QUEUE);
    task::spawn(keep(asked, out.clone()));
    let mut service = Service {
        streams: OpenStreams::new(out.clone()),
        out,
        changes: changes.clone(),
        accepted: Arc::new(AtomicU32::new(0)),
        admit: Arc::new(Semaphore::new(ACCEPTED)),
        sockets: BTreeSet::new(),
        disk: disk::DiskActor::default(),
        clock: clock::ClockActor::default(),
    };
    let mut input = FramedRead::new(input, Codec::default());
    let served = loop {
        let frame = tokio::select! {
            frame = input.next() => frame,
            // A closed stdout is treated like the end of stdin.
            _ = &mut writer => None,
            _ = terminated.recv() => None,
        };
        match frame {
            Some(Ok(SidecarFrame::Request(id, request))) => service.asked(id, request).await,
            Some(Ok(frame)) => service.streams.arrived(frame),
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    if !RemovalLayer::Supervisor.works() {
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

/// Writes all queued frames to stdout, several at once if available. Ends when `cancel` is triggered or the reader of stdout has ended.
pub(super) async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<SidecarFrame>,
    cancel: CancellationToken,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let written = async {
        while let Some(frame) = frames.recv().await {
            encode(frame, &mut buffer)?;
            while buffer.len() < super::frame::LONGEST
                && let Ok(frame) = frames.try_recv()
            {
                encode(frame, &mut buffer)?;
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

fn answer(id: u32, answer: io::Result<SidecarReply>) -> SidecarFrame {
    SidecarFrame::Answer(id, answer.map_err(SidecarRefusal::from))
}

/// Applies the changes of the namespace. The task is never cancelled. It removes all effects at the end, and then the process ends.
async fn keep(mut asked: mpsc::Receiver<Change>, out: mpsc::Sender<SidecarFrame>) {
    let mut links = NamespaceLinks::default();
    let mut sinks: HashMap<u16, JoinHandle<io::Result<f64>>> = HashMap::new();
    while let Some(change) = asked.recv().await {
        let (id, outcome) = match change {
            Change::Guard(id, guard) => {
                let installed = install(&guard).await.map(|()| SidecarReply::Done);
                spawn_answer(&out, id, std::future::ready(installed));
                // This error is ignored, since each request to set links repeats the attempt.
                let _ = links.prepare().await;
                continue;
            }
            Change::SetLinks(id, paths, seed, lease_ms) => (id, links.set(paths, seed, lease_ms).await.map(|()| SidecarReply::Done)),
            Change::Links(id) => (id, links.in_force().map(SidecarReply::Links)),
            Change::Sink(id, like, during_ms) => (id, sink(&mut links, &mut sinks, like, during_ms).await),
            Change::Sunk(id, port) => {
                links.leave(port);
                let measuring = sinks.remove(&port);
                spawn_answer(&out, id, async move {
                    let measured = measuring.ok_or_else(|| io::Error::other("nothing is measured there"))?;
                    measured.await.map_err(io::Error::other)?.map(SidecarReply::Sunk)
                });
                continue;
            }
            Change::Heal(healed) => {
                // The kernel removes the remaining effects when the lease ends.
                links.end().await;
                let _ = healed.send(());
                return;
            }
        };
        // A separate task sends the answer, since removing effects must not depend on the reader of the answer.
        spawn_answer(&out, id, std::future::ready(outcome));
    }
}

fn spawn_answer(out: &mpsc::Sender<SidecarFrame>, id: u32, outcome: impl Future<Output = io::Result<SidecarReply>> + Send + 'static) {
    let out = out.clone();
    task::spawn(async move {
        let outcome = outcome.await;
        let _ = out.send(answer(id, outcome)).await;
    });
}

async fn sink(
    links: &mut NamespaceLinks,
    sinks: &mut HashMap<u16, JoinHandle<io::Result<f64>>>,
    like: Option<LinkSelector>,
    during_ms: u64,
) -> io::Result<SidecarReply> {
    let sink = Sink::open()?;
    let port = sink.port()?;
    if let Some(way) = like {
        links.invite(port, way, GUEST_MS.saturating_add(during_ms)).await?;
    }
    let measure = probe::apart(move || sink.measure(Duration::from_millis(during_ms)));
    sinks.insert(port, task::spawn(measure));
    Ok(SidecarReply::Sink { port })
}

fn pings(Pings { sent, answered, duplicates, reordered }: Pings) -> SidecarReply {
    let answered_ns = answered.iter().map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)).collect();
    SidecarReply::Pings { sent, answered_ns, duplicates, reordered }
}

async fn install(guard: &guard::Guard) -> io::Result<()> {
    guard::install(guard).await?;
    names::serve().await
}

struct Service {
    streams: OpenStreams,
    out: mpsc::Sender<SidecarFrame>,
    changes: mpsc::Sender<Change>,
    /// Id of the last stream that this sidecar has accepted. The id is always even.
    accepted: Arc<AtomicU32>,
    admit: Arc<Semaphore>,
    sockets: BTreeSet<PathBuf>,
    disk: disk::DiskActor,
    clock: clock::ClockActor,
}

impl Service {
    async fn asked(&mut self, id: u32, request: SidecarRequest) {
        let reply = match request {
            SidecarRequest::Hello => Ok(SidecarReply::Hello { version: VERSION }),
            SidecarRequest::Traffic => traffic::traffic().map(|(received, sent)| SidecarReply::Traffic { received, sent }),
            SidecarRequest::Listen { path } => self.listen(id, path).map(|()| SidecarReply::Done),
            SidecarRequest::Dial { stream, to } => {
                let (carrier, out) = (self.streams.open(stream), self.out.clone());
                task::spawn(async move { dial(id, carrier, to, out).await });
                return;
            }
            SidecarRequest::Guard(guard) => return self.change(Change::Guard(id, guard)).await,
            SidecarRequest::Clock(ask) => self.clock.ask(ask).map(SidecarReply::Clock),
            SidecarRequest::Disk(ask) => return self.ask_about_the_disk(id, ask),
            SidecarRequest::SetLinks { paths, seed, lease_ms } => return self.change(Change::SetLinks(id, paths, seed, lease_ms)).await,
            SidecarRequest::Links => return self.change(Change::Links(id)).await,
            SidecarRequest::Sink { like, during_ms } => return self.change(Change::Sink(id, like, during_ms)).await,
            SidecarRequest::Sunk { port } => return self.change(Change::Sunk(id, port)).await,
            SidecarRequest::Ping { to, port, how } => {
                return spawn_answer(&self.out, id, async move { probe::apart(move || probe::ping(to, port, how)).await.map(pings) });
            }
            SidecarRequest::Pour { to, during_ms } => {
                let during = Duration::from_millis(during_ms);
                return spawn_answer(&self.out, id, async move {
                    probe::apart(move || probe::pour(to, during)).await.map(|()| SidecarReply::Done)
                });
            }
        };
        let out = self.out.clone();
        // The reader of the wire never waits for the writer.
        task::spawn(async move { out.send(answer(id, reply)).await });
    }

    async fn change(&self, change: Change) {
        let _ = self.changes.send(change).await;
    }

    fn ask_about_the_disk(&mut self, id: u32, ask: disk::DiskRequest) {
        let (told, out) = (self.disk.ask(ask), self.out.clone());
        task::spawn(async move {
            let told = told.await.unwrap_or_else(|_| Err(io::Error::other("nobody works on the disk")));
            out.send(answer(id, told.map(SidecarReply::Disk))).await
        });
    }

    fn listen(&mut self, id: u32, path: PathBuf) -> io::Result<()> {
        let listener = bind(&path)?;
        self.sockets.insert(path);
        let (streams, out) = (self.streams.clone(), self.out.clone());
        let (accepted, admit) = (Arc::clone(&self.accepted), Arc::clone(&self.admit));
        task::spawn(async move {
            // The semaphore is never closed.
            while let Ok(permit) = Arc::clone(&admit).acquire_owned().await {
                // An error concerns a single connection, or a temporary shortage.
                let Ok((connection, _)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let stream = accepted.fetch_add(2, Ordering::Relaxed) + 2;
                let carrier = streams.open(stream);
                if out.send(SidecarFrame::Accepted(id, stream)).await.is_err() {
                    return;
                }
                task::spawn(async move {
                    carrier.carry(connection, StreamError::default(), CancellationToken::new()).await;
                    drop(permit);
                });
            }
        });
        Ok(())
    }
}

/// Creates a listening unix socket to which every user may connect. Replaces an old socket at this path.
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

async fn dial(id: u32, mut carrier: Carrier, to: std::net::SocketAddr, out: mpsc::Sender<SidecarFrame>) {
    let connected = tokio::select! {
        connected = TcpStream::connect(to) => connected,
        () = carrier.abandoned() => return,
    };
    match connected {
        Ok(connection) => {
            // Data is forwarded as it arrives, in the pieces chosen by its sender.
            let _ = connection.set_nodelay(true);
            if out.send(answer(id, Ok(SidecarReply::Done))).await.is_ok() {
                carrier.carry(connection, StreamError::default(), CancellationToken::new()).await;
            }
        }
        Err(error) => {
            drop(carrier);
            let _ = out.send(answer(id, Err(error))).await;
        }
    }
}
