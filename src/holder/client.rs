//! The runner's side of a holder, over any pair of pipes.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::FramedRead;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::clock;
use super::disk::{Ask, Told};
use super::frame::{Codec, Frame};
use super::guard::Guard;
use super::links::{InForce, Path as LinkPath, Way};
use super::serve::{QUEUE, write};
use super::streams::{Carrier, Fate, Stream, Streams};
use super::verbs::{Answer, Refusal, Request, VERSION};
use crate::cluster::{Pinging, Pings};

/// Says why a holder is gone, when only its transport knows. Asked once, after the pipes have ended.
pub type Epitaph = Box<dyn FnOnce() -> String + Send>;

/// A connected holder. Cheap to clone; when the last clone is dropped its stdin ends, and it heals and exits.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    cancel: CancellationToken,
    _last: Arc<DropGuard>,
}

struct Shared {
    streams: Streams,
    out: mpsc::Sender<Frame>,
    next: AtomicU32,
    pending: Mutex<HashMap<u32, oneshot::Sender<Bytes>>>,
    /// Where the connections of each listener go, by the id of its request.
    offered: Mutex<HashMap<u32, PathBuf>>,
    gone: OnceLock<String>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Client {
    /// Speaks to a holder that has been started, or will be.
    ///
    /// # Errors
    /// When it ends, or speaks another version.
    pub async fn connect<R, W>(read: R, write_to: W, epitaph: Epitaph) -> io::Result<Self>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (out, frames) = mpsc::channel(QUEUE);
        let cancel = CancellationToken::new();
        let shared = Arc::new(Shared {
            streams: Streams::new(out.clone()),
            out,
            next: AtomicU32::new(1),
            pending: Mutex::default(),
            offered: Mutex::default(),
            gone: OnceLock::new(),
        });
        tokio::spawn(write(write_to, frames, cancel.clone()));
        tokio::spawn(Arc::clone(&shared).read(read, cancel.clone(), epitaph));
        let client = Self { shared, _last: Arc::new(cancel.clone().drop_guard()), cancel };
        match client.call(Request::Hello).await? {
            Answer::Hello { version: VERSION } => Ok(client),
            other => Err(io::Error::other(format!("the holder does not speak version {VERSION}: {other:?}"))),
        }
    }

    async fn call(&self, request: Request) -> io::Result<Answer> {
        let id = self.shared.id();
        self.call_as(id, request).await
    }

    async fn call_as(&self, id: u32, request: Request) -> io::Result<Answer> {
        let (give, take) = oneshot::channel();
        let _asked = Asked::new(&self.shared, id, give);
        let body = Bytes::from(serde_json::to_vec(&request).map_err(io::Error::other)?);
        // When the writer has ended the reader says why.
        let _ = self.shared.out.send(Frame::Request(id, body)).await;
        let body = take.await.map_err(|_| self.shared.ended())?;
        let answer: Result<Answer, Refusal> = serde_json::from_slice(&body).map_err(io::Error::other)?;
        answer.map_err(io::Error::from)
    }

    async fn done(&self, request: Request) -> io::Result<()> {
        expect_done(&self.call(request).await?)
    }

    pub async fn guard(&self, guard: Guard) -> io::Result<()> {
        self.done(Request::Guard(guard)).await
    }

    /// A TCP connection made in its namespace.
    pub async fn dial(&self, to: SocketAddr) -> io::Result<Stream> {
        let stream = self.shared.id();
        let carrier = self.shared.streams.open(stream);
        let (mut give, take) = oneshot::channel();
        let client = self.clone();
        // A caller that does not wait any longer must not leave the attempt behind.
        tokio::spawn(async move {
            let answered = tokio::select! {
                answered = client.call(Request::Dial { stream, to }) => answered,
                () = give.closed() => return carrier.abandon().await,
            };
            let opened = answered.and_then(|answer| expect_done(&answer)).map(|()| carrier.stream());
            let _ = give.send(opened);
        });
        take.await.map_err(|_| self.shared.ended())?
    }

    /// A unix socket at `inside`, where the holder is; each connection to it is carried to the one at `to`, which is here.
    pub async fn offer(&self, inside: &Path, to: PathBuf) -> io::Result<()> {
        let id = self.shared.id();
        lock(&self.shared.offered).insert(id, to);
        let listening = self.call_as(id, Request::Listen { path: inside.to_owned() }).await;
        if listening.is_err() {
            lock(&self.shared.offered).remove(&id);
        }
        expect_done(&listening?)
    }

    /// Bytes received and sent.
    pub async fn traffic(&self) -> io::Result<(u64, u64)> {
        match self.call(Request::Traffic).await? {
            Answer::Traffic { received, sent } => Ok((received, sent)),
            other => Err(unexpected(&other)),
        }
    }

    /// Puts exactly `paths` in force until `lease` is over or they are put anew.
    pub async fn set_links(&self, paths: Vec<LinkPath>, seed: u64, lease: Duration) -> io::Result<()> {
        self.done(Request::SetLinks { paths, seed, lease_ms: millis(lease) }).await
    }

    /// The paths in force, read back.
    pub async fn links(&self) -> io::Result<Vec<InForce>> {
        match self.call(Request::Links).await? {
            Answer::Links(paths) => Ok(paths),
            other => Err(unexpected(&other)),
        }
    }

    /// About the disk it shares with its node.
    pub async fn disk(&self, ask: Ask) -> io::Result<Told> {
        match self.call(Request::Disk(ask)).await? {
            Answer::Disk(told) => Ok(told),
            other => Err(unexpected(&other)),
        }
    }

    /// About the clocks of its node.
    pub async fn clock(&self, ask: clock::Ask) -> io::Result<clock::Told> {
        match self.call(Request::Clock(ask)).await? {
            Answer::Clock(told) => Ok(told),
            other => Err(unexpected(&other)),
        }
    }

    /// Round trips to `to`, by echoes or by connections to its port.
    pub async fn ping(&self, to: Ipv4Addr, port: Option<u16>, how: Pinging) -> io::Result<Pings> {
        match self.call(Request::Ping { to, port, how }).await? {
            Answer::Pings { sent, answered_ns, duplicates, reordered } => {
                let answered = answered_ns.into_iter().map(Duration::from_nanos).collect();
                Ok(Pings { sent, answered, duplicates, reordered })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Listens for what is to be measured, as packets of `like`; gives the port.
    pub async fn sink(&self, like: Option<Way>, during: Duration) -> io::Result<u16> {
        match self.call(Request::Sink { like, during_ms: millis(during) }).await? {
            Answer::Sink { port } => Ok(port),
            other => Err(unexpected(&other)),
        }
    }

    /// Bytes a second that came to the sink of that port.
    pub async fn sunk(&self, port: u16) -> io::Result<f64> {
        match self.call(Request::Sunk { port }).await? {
            Answer::Sunk(rate) => Ok(rate),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends as much as goes.
    pub async fn pour(&self, to: SocketAddrV4, during: Duration) -> io::Result<()> {
        self.done(Request::Pour { to, during_ms: millis(during) }).await
    }

    /// Ends its stdin: it heals and exits. All that is open breaks.
    pub fn close(&self) {
        self.cancel.cancel();
    }

    /// Whether it has ended, or was told to.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.cancel.is_cancelled() || self.shared.gone.get().is_some()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn expect_done(answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: &Answer) -> io::Error {
    io::Error::other(format!("the holder gave an answer to something else: {answer:?}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request under way. One that nobody waits for any longer is forgotten.
struct Asked<'a>(&'a Shared, u32);

impl<'a> Asked<'a> {
    fn new(shared: &'a Shared, id: u32, give: oneshot::Sender<Bytes>) -> Self {
        let mut pending = lock(&shared.pending);
        // Decided under the lock: whoever ends all of them finds this one or is found by it.
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
    /// Odd, for requests and streams alike.
    fn id(&self) -> u32 {
        self.next.fetch_add(2, Ordering::Relaxed)
    }

    fn ended(&self) -> io::Error {
        let why = self.gone.get().map_or("the holder is gone", String::as_str);
        io::Error::new(io::ErrorKind::ConnectionAborted, why.to_owned())
    }

    async fn read(self: Arc<Self>, read: impl AsyncRead + Unpin, cancel: CancellationToken, epitaph: Epitaph) {
        let mut frames = FramedRead::new(read, Codec);
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
        // Its writer has nobody to write to.
        cancel.cancel();
    }

    fn arrived(&self, frame: Frame) {
        match frame {
            Frame::Answer(id, body) => {
                if let Some(give) = lock(&self.pending).remove(&id) {
                    let _ = give.send(body);
                }
            }
            Frame::Accepted(listener, stream) => {
                let carrier = self.streams.open(stream);
                let to = lock(&self.offered).get(&listener).cloned();
                tokio::spawn(accepted(carrier, to));
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
        Some(connection) => carrier.carry(connection, Fate::default(), CancellationToken::new()).await,
        None => carrier.abandon().await,
    }
}
