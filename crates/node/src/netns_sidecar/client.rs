//! Client of a network sidecar for the runner, over any pair of pipes.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::FramedRead;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::clock;
use super::disk::{DiskReply, DiskRequest};
use super::frame::SidecarFrame;
use super::guard::Guard;
use super::links::{InForce, LinkEffects as LinkPath, LinkSelector};
use super::serve::{QUEUE, write};
use super::streams::{Carrier, OpenStreams, SidecarStream, StreamError};
use super::verbs::{SidecarRefusal, SidecarReply, SidecarRequest, VERSION};
use chaosrun_base::frame::Codec;
use chaosrun_base::task;
use chaosrun_cluster::{Pinging, Pings};

/// Callback that returns the reason why a sidecar has ended. The transport provides the callback, which is called once after the pipes have
/// ended.
pub type Epitaph = Box<dyn FnOnce() -> String + Send>;

/// Connection to a network sidecar, shared by all clones. When the last clone is dropped, the sidecar's stdin ends, and the sidecar removes
/// its effects and exits.
#[derive(Clone, Debug)]
pub struct SidecarClient {
    shared: Arc<Shared>,
    cancel: CancellationToken,
    _last: Arc<DropGuard>,
}

type Answered = Result<SidecarReply, SidecarRefusal>;

struct Shared {
    streams: OpenStreams,
    out: mpsc::Sender<SidecarFrame>,
    next: AtomicU32,
    pending: Mutex<HashMap<u32, oneshot::Sender<Answered>>>,
    /// Target socket for the connections of each listener in the sidecar, by the id of the request to listen.
    offered: Mutex<HashMap<u32, PathBuf>>,
    gone: OnceLock<String>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl SidecarClient {
    /// Connects to a sidecar that already runs or will be started.
    ///
    /// # Errors
    /// Returns an error if the sidecar ends or speaks another version of the protocol.
    pub async fn connect<R, W>(read: R, write_to: W, epitaph: Epitaph) -> io::Result<Self>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (out, frames) = mpsc::channel(QUEUE);
        let cancel = CancellationToken::new();
        let shared = Arc::new(Shared {
            streams: OpenStreams::new(out.clone()),
            out,
            next: AtomicU32::new(1),
            pending: Mutex::default(),
            offered: Mutex::default(),
            gone: OnceLock::new(),
        });
        task::spawn(write(write_to, frames, cancel.clone()));
        task::spawn(Arc::clone(&shared).read(read, cancel.clone(), epitaph));
        let client = Self { shared, _last: Arc::new(cancel.clone().drop_guard()), cancel };
        match client.call(SidecarRequest::Hello).await? {
            SidecarReply::Hello { version: VERSION } => Ok(client),
            other => Err(io::Error::other(format!("the holder does not speak version {VERSION}: {other:?}"))),
        }
    }

    async fn call(&self, request: SidecarRequest) -> io::Result<SidecarReply> {
        let id = self.shared.id();
        self.call_as(id, request).await
    }

    async fn call_as(&self, id: u32, request: SidecarRequest) -> io::Result<SidecarReply> {
        let (give, take) = oneshot::channel();
        let _asked = Asked::new(&self.shared, id, give);
        // If the writer has ended, the reader reports the reason.
        let _ = self.shared.out.send(SidecarFrame::Request(id, request)).await;
        take.await.map_err(|_| self.shared.ended())?.map_err(io::Error::from)
    }

    async fn done(&self, request: SidecarRequest) -> io::Result<()> {
        expect_done(&self.call(request).await?)
    }

    pub async fn guard(&self, guard: Guard) -> io::Result<()> {
        self.done(SidecarRequest::Guard(guard)).await
    }

    /// Opens a TCP connection to `to` in the network namespace of the sidecar.
    pub async fn dial(&self, to: SocketAddr) -> io::Result<SidecarStream> {
        let stream = self.shared.id();
        let carrier = self.shared.streams.open(stream);
        let (mut give, take) = oneshot::channel();
        let client = self.clone();
        // The attempt is abandoned if the caller stops waiting.
        task::spawn(async move {
            let answered = tokio::select! {
                answered = client.call(SidecarRequest::Dial { stream, to }) => answered,
                () = give.closed() => return carrier.abandon().await,
            };
            let opened = answered.and_then(|answer| expect_done(&answer)).map(|()| carrier.stream());
            let _ = give.send(opened);
        });
        take.await.map_err(|_| self.shared.ended())?
    }

    /// Makes the sidecar listen on a unix socket at `inside`, in its container. Each connection is forwarded to the socket at `to` on the
    /// runner's side.
    pub async fn offer(&self, inside: &Path, to: PathBuf) -> io::Result<()> {
        let id = self.shared.id();
        lock(&self.shared.offered).insert(id, to);
        let listening = self.call_as(id, SidecarRequest::Listen { path: inside.to_owned() }).await;
        if listening.is_err() {
            lock(&self.shared.offered).remove(&id);
        }
        expect_done(&listening?)
    }

    /// Returns the number of bytes that the network namespace has received and sent.
    pub async fn traffic(&self) -> io::Result<(u64, u64)> {
        match self.call(SidecarRequest::Traffic).await? {
            SidecarReply::Traffic { received, sent } => Ok((received, sent)),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets exactly the link effects `paths`. They stay active until `lease` ends or until the next call.
    pub async fn set_links(&self, paths: Vec<LinkPath>, seed: u64, lease: Duration) -> io::Result<()> {
        self.done(SidecarRequest::SetLinks { paths, seed, lease_ms: millis(lease) }).await
    }

    /// Returns the active link effects, read back from the kernel.
    pub async fn links(&self) -> io::Result<Vec<InForce>> {
        match self.call(SidecarRequest::Links).await? {
            SidecarReply::Links(paths) => Ok(paths),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request about the disk that the sidecar shares with its node, and returns the reply.
    pub async fn disk(&self, ask: DiskRequest) -> io::Result<DiskReply> {
        match self.call(SidecarRequest::Disk(ask)).await? {
            SidecarReply::Disk(told) => Ok(told),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request about the clocks of the node, and returns the reply.
    pub async fn clock(&self, ask: clock::ClockRequest) -> io::Result<clock::ClockReply> {
        match self.call(SidecarRequest::Clock(ask)).await? {
            SidecarReply::Clock(told) => Ok(told),
            other => Err(unexpected(&other)),
        }
    }

    /// Measures round-trip times to `to`, with ICMP echoes, or with TCP connections if `port` is given.
    pub async fn ping(&self, to: Ipv4Addr, port: Option<u16>, how: Pinging) -> io::Result<Pings> {
        match self.call(SidecarRequest::Ping { to, port, how }).await? {
            SidecarReply::Pings { sent, answered_ns, duplicates, reordered } => {
                let answered = answered_ns.into_iter().map(Duration::from_nanos).collect();
                Ok(Pings { sent, answered, duplicates, reordered })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a sink that measures throughput, and returns its port. The effects of the paths that match `like` apply to the sink.
    pub async fn sink(&self, like: Option<LinkSelector>, during: Duration) -> io::Result<u16> {
        match self.call(SidecarRequest::Sink { like, during_ms: millis(during) }).await? {
            SidecarReply::Sink { port } => Ok(port),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns the bytes per second that arrived at the sink on this port.
    pub async fn sunk(&self, port: u16) -> io::Result<f64> {
        match self.call(SidecarRequest::Sunk { port }).await? {
            SidecarReply::Sunk(rate) => Ok(rate),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends data to `to` as fast as possible for the time `during`.
    pub async fn pour(&self, to: SocketAddrV4, during: Duration) -> io::Result<()> {
        self.done(SidecarRequest::Pour { to, during_ms: millis(during) }).await
    }

    /// Closes the sidecar's stdin, so that the sidecar removes its effects and exits. Open connections break.
    pub fn close(&self) {
        self.cancel.cancel();
    }

    /// Returns true if the sidecar has ended, or if [`Self::close`] was called.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.cancel.is_cancelled() || self.shared.gone.get().is_some()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn expect_done(answer: &SidecarReply) -> io::Result<()> {
    match answer {
        SidecarReply::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: &SidecarReply) -> io::Error {
    io::Error::other(format!("unexpected reply of the network sidecar: {answer:?}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pending request to the sidecar. Dropping the value removes the request from the table of pending requests.
struct Asked<'a>(&'a Shared, u32);

impl<'a> Asked<'a> {
    fn new(shared: &'a Shared, id: u32, give: oneshot::Sender<Answered>) -> Self {
        let mut pending = lock(&shared.pending);
        // Checked under the lock. The code that ends all requests either finds this request, or has set `gone` before.
        if shared.gone.get().is_none() {
            pending.insert(id, give);
        }
        Self(shared, id)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(&self.0.pending).remove(&self.1);
    }
}

impl Shared {
    /// Returns the next id for a request or a stream. The id is always odd.
    fn id(&self) -> u32 {
        self.next.fetch_add(2, Ordering::Relaxed)
    }

    fn ended(&self) -> io::Error {
        let why = self.gone.get().map_or("the holder is gone", String::as_str);
        io::Error::new(io::ErrorKind::ConnectionAborted, why.to_owned())
    }

    async fn read(self: Arc<Self>, read: impl AsyncRead + Unpin, cancel: CancellationToken, epitaph: Epitaph) {
        let mut frames = FramedRead::new(read, Codec::default());
        let why = loop {
            let frame = tokio::select! {
                frame = frames.next() => frame,
                () = cancel.cancelled() => break "the holder was closed".to_owned(),
            };
            match frame {
                Some(Ok(frame)) => self.arrived(frame),
                Some(Err(error)) => break format!("the holder is gone: {error}"),
                None => {
                    let said = epitaph();
                    break if said.is_empty() { "the holder is gone".to_owned() } else { format!("the holder is gone: {said}") };
                }
            }
        };
        let _ = self.gone.set(why.clone());
        self.streams.fail(&why);
        lock(&self.pending).clear();
        // The reader has ended, so the writer has no recipient.
        cancel.cancel();
    }

    fn arrived(&self, frame: SidecarFrame) {
        match frame {
            SidecarFrame::Answer(id, answer) => {
                if let Some(give) = lock(&self.pending).remove(&id) {
                    let _ = give.send(answer);
                }
            }
            SidecarFrame::Accepted(listener, stream) => {
                let carrier = self.streams.open(stream);
                let to = lock(&self.offered).get(&listener).cloned();
                task::spawn(accepted(carrier, to));
            }
            other => self.streams.arrived(other),
        }
    }
}

async fn accepted(carrier: Carrier, to: Option<PathBuf>) {
    let connected = match to {
        Some(to) => UnixStream::connect(to).await.ok(),
        None => None,
    };
    match connected {
        Some(connection) => carrier.carry(connection, StreamError::default(), CancellationToken::new()).await,
        None => carrier.abandon().await,
    }
}
