//! Connections carried over the one pair of pipes, the same on both sides.
//!
//! Each direction of each stream has a window: its receiver holds at most that many bytes for a reader that does not read,
//! and the sender waits for credit before it sends more. So whoever reads the wire never waits for a stream, and one that is
//! stuck keeps no other from moving.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::frame::Frame;

/// Bytes of one direction that may be under way.
pub const WINDOW: usize = 256 << 10;
/// The most that is sent at once, so that streams take turns.
const CHUNK: usize = 16 << 10;

enum Inbound {
    Data(Bytes),
    End,
    Reset,
}

struct Entry {
    inbox: mpsc::UnboundedSender<Inbound>,
    /// What may be sent, in bytes.
    credit: Arc<Semaphore>,
    /// What the other side may send, in bytes.
    granted: Arc<AtomicUsize>,
}

/// All open streams of one side.
#[derive(Clone)]
pub struct Streams {
    open: Arc<Mutex<HashMap<u32, Entry>>>,
    out: mpsc::Sender<Frame>,
    /// Why all of them are over.
    gone: Arc<OnceLock<String>>,
}

impl Streams {
    #[must_use]
    pub fn new(out: mpsc::Sender<Frame>) -> Self {
        Self { open: Arc::default(), out, gone: Arc::default() }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the stream `id` known: from now on its frames are kept for it.
    #[must_use]
    pub fn open(&self, id: u32) -> Carrier {
        let (sender, inbox) = mpsc::unbounded_channel();
        let (credit, granted) = (Arc::new(Semaphore::new(WINDOW)), Arc::new(AtomicUsize::new(WINDOW)));
        let entry = Entry { inbox: sender, credit: Arc::clone(&credit), granted: Arc::clone(&granted) };
        let mut entries = self.entries();
        // Nothing is registered any more once all is over: the inbox is closed from the beginning.
        if self.gone.get().is_none() {
            entries.insert(id, entry);
        }
        Carrier { id, inbox, credit, granted, streams: self.clone() }
    }

    /// Takes what has arrived for a stream, without ever waiting. Frames of a stream that is over are dropped.
    pub fn arrived(&self, frame: Frame) {
        let mut entries = self.entries();
        let (id, inbound) = match frame {
            Frame::Data(id, bytes) => (id, Inbound::Data(bytes)),
            Frame::End(id) => (id, Inbound::End),
            Frame::Reset(id) => (id, Inbound::Reset),
            Frame::Credit(id, bytes) => {
                if let Some(entry) = entries.get(&id) {
                    let most = WINDOW.saturating_sub(entry.credit.available_permits());
                    entry.credit.add_permits(most.min(bytes as usize));
                }
                return;
            }
            Frame::Request(..) | Frame::Answer(..) | Frame::Accepted(..) => return,
        };
        let Some(entry) = entries.get(&id) else { return };
        let kept = match &inbound {
            Inbound::Data(bytes) => {
                let take = |granted: usize| granted.checked_sub(bytes.len());
                entry.granted.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
            }
            Inbound::End | Inbound::Reset => true,
        };
        // A sender beyond its credit would fill our memory: its stream is over.
        if !kept || entry.inbox.send(inbound).is_err() {
            entries.remove(&id);
        }
    }

    /// Ends all streams: there is nobody on the other side any more.
    pub fn fail(&self, why: &str) {
        let mut entries = self.entries();
        let _ = self.gone.set(why.to_owned());
        entries.clear();
    }

    pub fn gone(&self) -> Option<&str> {
        self.gone.get().map(String::as_str)
    }
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("open", &self.entries().len()).finish_non_exhaustive()
    }
}

/// Why a stream did not end well, for whoever reads it.
pub type Fate = Arc<OnceLock<String>>;

enum Broken {
    /// The other side said that it is over.
    Peer,
    /// There is no other side.
    Gone,
    /// Ours cannot go on.
    Here(io::Error),
    /// Ours was dropped.
    LetGo,
}

/// One open stream, to be joined with what its bytes are for.
pub struct Carrier {
    id: u32,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    credit: Arc<Semaphore>,
    granted: Arc<AtomicUsize>,
    streams: Streams,
}

impl Carrier {
    /// Resolves when the other side is done with the stream before it has begun.
    pub async fn abandoned(&mut self) {
        // Nothing else can arrive for a stream that was not answered yet.
        while matches!(self.inbox.recv().await, Some(Inbound::Data(_) | Inbound::End)) {}
    }

    /// Says that it is over before it has begun.
    pub async fn abandon(self) {
        let _ = self.streams.out.send(Frame::Reset(self.id)).await;
    }

    /// A connection of our own that is this stream.
    pub fn stream(self) -> Stream {
        let (inner, io) = tokio::io::duplex(4 * CHUNK);
        let (fate, let_go) = (Fate::default(), CancellationToken::new());
        let stream = Stream { inner, fate: Arc::clone(&fate), _let_go: let_go.clone().drop_guard() };
        tokio::spawn(self.carry(io, fate, let_go));
        stream
    }

    /// Carries all bytes between `io` and the other side until both directions have ended, or something is broken, or `io`
    /// ended and `let_go` says that nobody will read it.
    pub async fn carry<T: AsyncRead + AsyncWrite>(mut self, io: T, fate: Fate, let_go: CancellationToken) {
        let (mut read, mut write) = tokio::io::split(io);
        let out = self.streams.out.clone();
        let (id, ended) = (self.id, Notify::new());
        let inward = async {
            let mut owed = 0;
            loop {
                match self.inbox.recv().await {
                    Some(Inbound::Data(bytes)) => {
                        if let Err(error) = write.write_all(&bytes).await {
                            return Broken::Here(error);
                        }
                        owed += bytes.len();
                        if owed >= WINDOW / 4 {
                            self.granted.fetch_add(owed, Ordering::AcqRel);
                            let _ = out.send(Frame::Credit(id, u32::try_from(owed).unwrap_or(u32::MAX))).await;
                            owed = 0;
                        }
                    }
                    Some(Inbound::End) => {
                        if let Err(error) = write.shutdown().await {
                            return Broken::Here(error);
                        }
                        ended.notify_one();
                    }
                    Some(Inbound::Reset) => return Broken::Peer,
                    None => return Broken::Gone,
                }
            }
        };
        let outward = async {
            loop {
                let mut bytes = BytesMut::with_capacity(CHUNK);
                let length = read.read_buf(&mut bytes).await.map_err(Broken::Here)?;
                if length == 0 {
                    break;
                }
                // Never closed; more than a window is never asked for.
                let permits = self.credit.acquire_many(u32::try_from(length).unwrap_or(u32::MAX)).await;
                permits.map_err(|_| Broken::Gone)?.forget();
                out.send(Frame::Data(id, bytes.freeze())).await.map_err(|_| Broken::Gone)?;
            }
            out.send(Frame::End(id)).await.map_err(|_| Broken::Gone)?;
            tokio::select! {
                () = ended.notified() => Ok(()),
                () = let_go.cancelled() => Err(Broken::LetGo),
            }
        };
        let broken = tokio::select! {
            broken = inward => Some(broken),
            outcome = outward => outcome.err(),
        };
        // Set before `io` is dropped, so that who finds the end finds the reason.
        let why = match broken {
            None => return,
            Some(Broken::Peer) => "connection reset".to_owned(),
            Some(Broken::Gone) => self.streams.gone().unwrap_or("the other side sent too much").to_owned(),
            Some(Broken::Here(error)) => error.to_string(),
            Some(Broken::LetGo) => String::new(),
        };
        let _ = fate.set(why);
        let _ = self.streams.out.send(Frame::Reset(self.id)).await;
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.streams.entries().remove(&self.id);
    }
}

/// A carried connection. Dropped, it is closed in both directions once all that was written has been sent.
#[derive(Debug)]
pub struct Stream {
    inner: DuplexStream,
    fate: Fate,
    _let_go: DropGuard,
}

impl Stream {
    fn broken(&self) -> Option<io::Error> {
        self.fate.get().map(|why| io::Error::new(io::ErrorKind::ConnectionReset, why.clone()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        let at_end = buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(match self.broken() {
            Some(error) if at_end => Err(error),
            _ => read,
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes));
        Poll::Ready(wrote.map_err(|error| self.broken().unwrap_or(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sides whose frames are passed on, by a task that never waits for a stream.
    fn pair() -> (Streams, Streams) {
        let ((a_out, mut a_frames), (b_out, mut b_frames)) = (mpsc::channel(4), mpsc::channel(4));
        let (a, b) = (Streams::new(a_out), Streams::new(b_out));
        let (to_a, to_b) = (a.clone(), b.clone());
        tokio::spawn(async move {
            while let Some(frame) = a_frames.recv().await {
                to_b.arrived(frame);
            }
        });
        tokio::spawn(async move {
            while let Some(frame) = b_frames.recv().await {
                to_a.arrived(frame);
            }
        });
        (a, b)
    }

    #[tokio::test]
    async fn bytes_and_ends_arrive_in_order_in_both_directions() {
        let (a, b) = pair();
        let (mut here, mut there) = (a.open(1).stream(), b.open(1).stream());
        let sent: Vec<u8> = (0..3 * WINDOW + 17).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let expected = sent.clone();
        let echo = tokio::spawn(async move {
            let mut all = Vec::new();
            there.read_to_end(&mut all).await.unwrap();
            there.write_all(&all).await.unwrap();
            there.shutdown().await.unwrap();
            there
        });
        here.write_all(&sent).await.unwrap();
        here.shutdown().await.unwrap();
        let mut back = Vec::new();
        here.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, expected);
        drop(echo.await.unwrap());
        while !a.entries().is_empty() || !b.entries().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stuck_stream_keeps_its_window_and_no_other_from_moving() {
        let (a, b) = pair();
        let (mut stuck, unread) = (a.open(1).stream(), b.open(1).stream());
        let mut written = 0;
        let chunk = vec![7; CHUNK];
        while tokio::time::timeout(std::time::Duration::from_millis(300), stuck.write_all(&chunk)).await.is_ok() {
            written += chunk.len();
            assert!(written < 3 * WINDOW, "nobody reads");
        }
        assert!(written >= WINDOW, "{written}");

        let (mut here, mut there) = (a.open(3).stream(), b.open(3).stream());
        for _ in 0..100 {
            here.write_all(&chunk).await.unwrap();
            let mut read = vec![0; CHUNK];
            there.read_exact(&mut read).await.unwrap();
        }
        drop(unread);
        let error = loop {
            if let Err(error) = stuck.write_all(&chunk).await {
                break error;
            }
        };
        assert_eq!(error.to_string(), "connection reset");
    }

    #[tokio::test]
    async fn what_was_written_before_the_drop_arrives() {
        let (a, b) = pair();
        let (mut here, mut there) = (a.open(1).stream(), b.open(1).stream());
        here.write_all(b"last words").await.unwrap();
        drop(here);
        let mut all = vec![0; 10];
        there.read_exact(&mut all).await.unwrap();
        assert_eq!(all, b"last words");
        let ended = there.read(&mut all).await;
        assert!(ended.is_err() || matches!(ended, Ok(0)), "{ended:?}");
    }

    #[tokio::test]
    async fn when_the_other_side_is_gone_readers_learn_why() {
        let (a, _b) = pair();
        let mut stream = a.open(1).stream();
        a.fail("the holder is gone");
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().to_string(), "the holder is gone");
        assert_eq!(a.open(3).stream().read(&mut [0; 8]).await.unwrap_err().to_string(), "the holder is gone");
    }

    #[tokio::test]
    async fn more_than_was_granted_ends_the_stream() {
        let (out, _frames) = mpsc::channel(4);
        let streams = Streams::new(out);
        let mut carrier = streams.open(1);
        for _ in 0..WINDOW / CHUNK {
            streams.arrived(Frame::Data(1, Bytes::from(vec![0; CHUNK])));
        }
        assert_eq!(streams.entries().len(), 1);
        streams.arrived(Frame::Data(1, Bytes::from_static(b"x")));
        assert!(streams.entries().is_empty());
        carrier.abandoned().await;
    }
}
