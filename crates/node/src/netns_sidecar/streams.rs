//! Streams: connections multiplexed over one pair of pipes, with the same code in the runner and in the sidecar.
//!
//! Each direction of each stream has a window. The receiver buffers at most that many bytes for a slow reader, and the sender waits for
//! credit before it sends more. The reader of the pipe therefore never waits for a stream, and a stuck stream does not block others.

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

use super::frame::SidecarFrame;
use chaosrun_base::task;

/// Largest number of bytes in flight in one direction of a stream.
pub const WINDOW: usize = 256 << 10;
/// Largest number of bytes in one frame, so that streams take turns.
const CHUNK: usize = 16 << 10;

enum Inbound {
    Data(Bytes),
    End,
    Reset,
}

struct Entry {
    inbox: mpsc::UnboundedSender<Inbound>,
    /// Number of bytes that this side may still send on the stream.
    credit: Arc<Semaphore>,
    /// Number of bytes that the remote side may still send on the stream.
    granted: Arc<AtomicUsize>,
}

/// Open streams of one side of the connection.
#[derive(Clone)]
pub(crate) struct OpenStreams {
    open: Arc<Mutex<HashMap<u32, Entry>>>,
    out: mpsc::Sender<SidecarFrame>,
    /// Reason why all streams have ended; empty while the connection works.
    gone: Arc<OnceLock<String>>,
}

impl OpenStreams {
    #[must_use]
    pub fn new(out: mpsc::Sender<SidecarFrame>) -> Self {
        Self { open: Arc::default(), out, gone: Arc::default() }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the stream `id`. From now on, the returned carrier receives all frames of the stream.
    #[must_use]
    pub fn open(&self, id: u32) -> Carrier {
        let (sender, inbox) = mpsc::unbounded_channel();
        let (credit, granted) = (Arc::new(Semaphore::new(WINDOW)), Arc::new(AtomicUsize::new(WINDOW)));
        let entry = Entry { inbox: sender, credit: Arc::clone(&credit), granted: Arc::clone(&granted) };
        let mut entries = self.entries();
        // After the end of the connection no stream is registered, so the inbox of the new carrier is closed from the beginning.
        if self.gone.get().is_none() {
            entries.insert(id, entry);
        }
        Carrier { id, inbox, credit, granted, streams: self.clone() }
    }

    /// Passes a received frame to its stream without waiting. Drops frames of finished streams.
    pub fn arrived(&self, frame: SidecarFrame) {
        let mut entries = self.entries();
        let (id, inbound) = match frame {
            SidecarFrame::Data(id, bytes) => (id, Inbound::Data(bytes)),
            SidecarFrame::End(id) => (id, Inbound::End),
            SidecarFrame::Reset(id) => (id, Inbound::Reset),
            SidecarFrame::Credit(id, bytes) => {
                if let Some(entry) = entries.get(&id) {
                    let most = WINDOW.saturating_sub(entry.credit.available_permits());
                    entry.credit.add_permits(most.min(bytes as usize));
                }
                return;
            }
            SidecarFrame::Request(..) | SidecarFrame::Answer(..) | SidecarFrame::Accepted(..) => return,
        };
        let Some(entry) = entries.get(&id) else { return };
        let kept = match &inbound {
            Inbound::Data(bytes) => {
                let take = |granted: usize| granted.checked_sub(bytes.len());
                entry.granted.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
            }
            Inbound::End | Inbound::Reset => true,
        };
        // A sender that exceeds its credit would fill the memory, so its stream is ended.
        if !kept || entry.inbox.send(inbound).is_err() {
            entries.remove(&id);
        }
    }

    /// Ends all streams with the reason `why`, because the remote side has ended.
    pub fn fail(&self, why: &str) {
        let mut entries = self.entries();
        let _ = self.gone.set(why.to_owned());
        entries.clear();
    }

    pub fn gone(&self) -> Option<&str> {
        self.gone.get().map(String::as_str)
    }
}

impl std::fmt::Debug for OpenStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("open", &self.entries().len()).finish_non_exhaustive()
    }
}

/// Reason why a stream failed, set for the reader of the stream; empty if the stream did not fail.
pub(crate) type StreamError = Arc<OnceLock<String>>;

enum Broken {
    /// The remote side has reset the stream.
    Peer,
    /// The remote side has ended.
    Gone,
    /// Reading from or writing to the local connection failed.
    Here(io::Error),
    /// The local end of the stream was dropped.
    LetGo,
}

/// Open stream that is not yet joined with a local connection.
pub(crate) struct Carrier {
    id: u32,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    credit: Arc<Semaphore>,
    granted: Arc<AtomicUsize>,
    streams: OpenStreams,
}

impl Carrier {
    /// Waits until the remote side resets this stream. Used before the stream is answered.
    pub async fn abandoned(&mut self) {
        // No other frame can arrive for a stream that was not answered yet.
        while matches!(self.inbox.recv().await, Some(Inbound::Data(_) | Inbound::End)) {}
    }

    /// Resets the unused stream, and drops the carrier.
    pub async fn abandon(self) {
        let _ = self.streams.out.send(SidecarFrame::Reset(self.id)).await;
    }

    /// Converts the carrier to a local connection, and starts a task that copies the data.
    pub fn stream(self) -> SidecarStream {
        let (inner, io) = tokio::io::duplex(4 * CHUNK);
        let (fate, let_go) = (StreamError::default(), CancellationToken::new());
        let stream = SidecarStream { inner, fate: Arc::clone(&fate), _let_go: let_go.clone().drop_guard() };
        task::spawn(self.carry(io, fate, let_go));
        stream
    }

    /// Copies all bytes between `io` and the remote side. Ends when both directions have ended or one side fails. Also ends if `io` has
    /// ended and `let_go` signals that `io` has no reader.
    pub async fn carry<T: AsyncRead + AsyncWrite>(mut self, io: T, fate: StreamError, let_go: CancellationToken) {
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
                            let _ = out.send(SidecarFrame::Credit(id, u32::try_from(owed).unwrap_or(u32::MAX))).await;
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
                // The semaphore is never closed, and at most one window is requested.
                let permits = self.credit.acquire_many(u32::try_from(length).unwrap_or(u32::MAX)).await;
                permits.map_err(|_| Broken::Gone)?.forget();
                out.send(SidecarFrame::Data(id, bytes.freeze())).await.map_err(|_| Broken::Gone)?;
            }
            out.send(SidecarFrame::End(id)).await.map_err(|_| Broken::Gone)?;
            tokio::select! {
                () = ended.notified() => Ok(()),
                () = let_go.cancelled() => Err(Broken::LetGo),
            }
        };
        let broken = tokio::select! {
            broken = inward => Some(broken),
            outcome = outward => outcome.err(),
        };
        // The reason is set before `io` is dropped, so that a reader that gets the end finds the reason.
        let why = match broken {
            None => return,
            Some(Broken::Peer) => "connection reset".to_owned(),
            Some(Broken::Gone) => self.streams.gone().unwrap_or("the other side sent too much").to_owned(),
            Some(Broken::Here(error)) => error.to_string(),
            Some(Broken::LetGo) => String::new(),
        };
        let _ = fate.set(why);
        let _ = self.streams.out.send(SidecarFrame::Reset(self.id)).await;
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.streams.entries().remove(&self.id);
    }
}

/// Local end of a stream. Dropping it closes both directions of the stream after all written data has been sent.
#[derive(Debug)]
pub struct SidecarStream {
    inner: DuplexStream,
    fate: StreamError,
    _let_go: DropGuard,
}

impl SidecarStream {
    fn broken(&self) -> Option<io::Error> {
        self.fate.get().map(|why| io::Error::new(io::ErrorKind::ConnectionReset, why.clone()))
    }
}

impl AsyncRead for SidecarStream {
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

impl AsyncWrite for SidecarStream {
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

    /// Creates two connected sides. Two tasks pass frames between the sides and never wait for a stream.
    fn pair() -> (OpenStreams, OpenStreams) {
        let ((a_out, mut a_frames), (b_out, mut b_frames)) = (mpsc::channel(4), mpsc::channel(4));
        let (a, b) = (OpenStreams::new(a_out), OpenStreams::new(b_out));
        let (to_a, to_b) = (a.clone(), b.clone());
        task::spawn(async move {
            while let Some(frame) = a_frames.recv().await {
                to_b.arrived(frame);
            }
        });
        task::spawn(async move {
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
        let echo = task::spawn(async move {
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
    async fn stuck_stream_keeps_its_window_and_does_not_block_others() {
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
    async fn data_written_before_the_drop_arrives() {
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
    async fn readers_get_the_reason_when_the_other_side_is_gone() {
        let (a, _b) = pair();
        let mut stream = a.open(1).stream();
        a.fail("the holder is gone");
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().to_string(), "the holder is gone");
        assert_eq!(a.open(3).stream().read(&mut [0; 8]).await.unwrap_err().to_string(), "the holder is gone");
    }

    #[tokio::test]
    async fn exceeding_the_credit_ends_the_stream() {
        let (out, _frames) = mpsc::channel(4);
        let streams = OpenStreams::new(out);
        let mut carrier = streams.open(1);
        for _ in 0..WINDOW / CHUNK {
            streams.arrived(SidecarFrame::Data(1, Bytes::from(vec![0; CHUNK])));
        }
        assert_eq!(streams.entries().len(), 1);
        streams.arrived(SidecarFrame::Data(1, Bytes::from_static(b"x")));
        assert!(streams.entries().is_empty());
        carrier.abandoned().await;
    }
}
