//! Pump: one direction of a connection, which reads and writes within the limits of its path.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alarm::{Alarm, AlarmClock};
use super::path::ActivePath;
use chaosrun_cluster::delay_sampler::DelaySampler;
use chaosrun_cluster::{CutMode, Shape};

/// Maximum number of bytes per read.
const CHUNK: usize = 64 * 1024;
/// Default buffer limit of a delayed direction, in bytes: the data in flight on a link of 10 ms at 400 MB/s. The sender waits while the
/// buffer is full.
const IN_FLIGHT: usize = 4 * 1024 * 1024;
/// Largest buffer limit of a delayed direction in bytes, for paths whose delay and rate require more than `IN_FLIGHT`.
const MOST_IN_FLIGHT: usize = 64 * 1024 * 1024;

thread_local! {
    /// Read buffer that all connections share. All connections run on one thread, and most bytes are written on immediately.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    /// Number of bytes of this chunk that are already written.
    written: usize,
}

/// Path that a direction follows, with the state for one connection.
struct Follows {
    lane: Arc<ActivePath>,
    scatter: DelaySampler,
    /// True if the path resets this connection at the next data.
    doomed: bool,
    in_flight: usize,
}

/// State of one direction of a connection. The state outlives any change of the paths.
pub(super) struct Pump {
    /// Number of the connection among the connections of the pair.
    number: u64,
    follows: Option<Follows>,
    queue: VecDeque<Chunk>,
    queued: usize,
    /// Time at which the end of the stream is forwarded; `None` while the sender has not ended.
    end: Option<Instant>,
    /// True after the end of the stream has been forwarded.
    closed: bool,
    /// True if bytes or the end of the stream were discarded, so that the stream cannot continue.
    broken: bool,
    /// Alarm for the time at which the next delayed bytes are due.
    due: Alarm,
    /// Alarm for the time at which the rate limit admits more bytes.
    free: Alarm,
}

impl Pump {
    pub(super) fn new(clock: &Arc<AlarmClock>, number: u64) -> Self {
        Self {
            number,
            follows: None,
            queue: VecDeque::new(),
            queued: 0,
            end: None,
            closed: false,
            broken: false,
            due: clock.alarm(),
            free: clock.alarm(),
        }
    }

    /// Switches this direction to the path `lane`. Data in flight arrives no later than data that is sent after the change.
    pub(super) fn follow(&mut self, lane: Option<Arc<ActivePath>>) {
        let same = match (&self.follows, &lane) {
            (Some(follows), Some(lane)) => Arc::ptr_eq(&follows.lane, lane),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        let delay = lane.as_ref().map_or(Duration::ZERO, |lane| lane.path.shape.delay);
        let latest = Instant::now() + delay;
        for chunk in &mut self.queue {
            chunk.due = chunk.due.min(latest);
        }
        self.end = self.end.map(|end| end.min(latest));
        self.follows = lane.map(|lane| Follows {
            scatter: lane.scatter(self.number),
            doomed: lane.dooms(self.number),
            in_flight: in_flight(&lane.path.shape),
            lane,
        });
    }

    pub(super) fn lane(&self) -> Option<&ActivePath> {
        self.follows.as_ref().map(|follows| &*follows.lane)
    }

    pub(super) fn cut(&self) -> Option<CutMode> {
        self.lane().and_then(ActivePath::cut)
    }

    /// Returns true if the stream has lost bytes and its path no longer drops bytes, so that the connection must be reset.
    pub(super) fn is_broken(&self) -> bool {
        self.broken && self.cut() != Some(CutMode::Drop)
    }

    /// Returns the delay of the next message. Used for the TCP handshake, which a relay does not receive as bytes.
    pub(super) fn delay(&mut self) -> Duration {
        self.follows.as_mut().map_or(Duration::ZERO, |follows| follows.scatter.delay(&follows.lane.path.shape))
    }

    /// Forwards bytes. Ready when the end of the stream has been forwarded or discarded, or when the connection has failed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        match self.cut() {
            None => self.poll_pass(cx, from, to),
            Some(CutMode::Drop) => self.poll_swallow(cx, from).map(Ok),
            Some(CutMode::Stall) => {
                if self.poll_hold(cx, from).is_ready() {
                    self.end.get_or_insert_with(Instant::now);
                }
                Poll::Pending
            }
            Some(CutMode::Reject) => Poll::Pending,
        }
    }

    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            let delivered = self.poll_deliver(cx, to)?;
            if let Some(end) = self.end {
                ready!(delivered);
                ready!(self.due.poll(cx, end));
                // The receiver may have ended already, which does not affect data that was sent before.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            // Without a delay, reading waits until the last bytes are written, so that backpressure reaches the sender.
            if delivered.is_pending() && self.follows.as_ref().is_none_or(|follows| self.queued >= follows.in_flight) {
                return Poll::Pending;
            }
            if let Some(free) = self.follows.as_ref().and_then(|follows| follows.lane.busy_until()) {
                ready!(self.free.poll(cx, free));
            }
            ready!(self.poll_take(cx, from, to))?;
        }
    }

    /// Writes bytes that are due. Ready when the queue is empty.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<Poll<()>> {
        while let Some(due) = self.queue.front().map(|chunk| chunk.due) {
            if self.due.poll(cx, due).is_pending() {
                return Ok(Poll::Pending);
            }
            let Some(chunk) = self.queue.front_mut() else { break };
            match Pin::new(&mut *to).poll_write(cx, &chunk.bytes[chunk.written..]) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(count) => {
                    chunk.written += count?;
                    if chunk.written == chunk.bytes.len() {
                        self.queued -= chunk.bytes.len();
                        self.queue.pop_front();
                    }
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Reads once. Bytes that can be written at once do not enter the queue.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let longest = self.lane().and_then(ActivePath::longest_read).unwrap_or(CHUNK).min(CHUNK);
            let mut buffer = ReadBuf::new(&mut scratch[..longest]);
            ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            let now = Instant::now();
            if bytes.is_empty() {
                // The end of the stream stays in order: it follows all data in flight.
                self.end = Some(self.arrival(0, now));
                return Poll::Ready(Ok(()));
            }
            if let Some(follows) = &self.follows {
                follows.lane.count(|counters| {
                    counters.packets += 1;
                    counters.bytes += bytes.len() as u64;
                    counters.reset += u64::from(follows.doomed);
                });
                if follows.doomed {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
            let due = self.arrival(bytes.len(), now);
            let written = if due <= now && self.queue.is_empty() {
                match Pin::new(to).poll_write(cx, bytes) {
                    Poll::Ready(count) => count?,
                    Poll::Pending => 0,
                }
            } else {
                0
            };
            if written < bytes.len() {
                self.push(due, bytes[written..].to_vec());
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Returns the arrival time of bytes that are read at time `now`. They never arrive before bytes that were read earlier.
    fn arrival(&mut self, bytes: usize, now: Instant) -> Instant {
        let Some(Follows { lane, scatter, .. }) = &mut self.follows else { return now };
        let due = lane.let_in(bytes, now) + scatter.delay(&lane.path.shape);
        if due > now && bytes > 0 {
            lane.count(|counters| counters.delayed += 1);
        }
        self.queue.back().map_or(due, |last| due.max(last.due))
    }

    fn push(&mut self, due: Instant, bytes: Vec<u8>) {
        self.queued += bytes.len();
        self.queue.push_back(Chunk { due, bytes, written: 0 });
    }

    /// Reads and discards bytes. Ready when the sender has ended.
    pub(super) fn poll_swallow(&mut self, cx: &mut Context<'_>, from: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        if !self.queue.is_empty() || self.end.is_some() {
            self.queue.clear();
            self.queued = 0;
            self.broken = true;
        }
        while self.end.is_none() {
            let count = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                // The end of a sender that died looks the same here as a regular end.
                let read = ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer));
                Poll::Ready(read.map_or(0, |()| buffer.filled().len()))
            });
            let count = ready!(count);
            self.broken = true;
            self.kept_out(count);
            if count == 0 {
                self.end = Some(Instant::now());
            }
        }
        Poll::Ready(())
    }

    /// Reads a small number of bytes and keeps them in the queue, to notice data and the end of the sender. Ready when the sender has
    /// ended.
    pub(super) fn poll_hold(&mut self, cx: &mut Context<'_>, from: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        while self.queued < CHUNK && self.end.is_none() {
            let mut bytes = vec![0; CHUNK / 16];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer));
            let count = buffer.filled().len();
            if read.is_err() || count == 0 {
                return Poll::Ready(());
            }
            bytes.truncate(count);
            self.kept_out(count);
            self.push(Instant::now(), bytes);
        }
        Poll::Pending
    }

    fn kept_out(&self, bytes: usize) {
        if let (Some(lane), true) = (self.lane(), bytes > 0) {
            lane.count(|counters| {
                counters.packets += 1;
                counters.bytes += bytes as u64;
                counters.dropped += 1;
            });
        }
    }
}

/// Returns the buffer limit of a path in bytes. The limit is so large that the delay does not reduce the rate. Returns 0 for a path without
/// delay.
fn in_flight(shape: &Shape) -> usize {
    if shape.delay.is_zero() && shape.jitter.is_zero() && shape.rate.is_none() {
        return 0;
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a bound")]
    let wanted = (shape.rate.unwrap_or(0) as f64 * (shape.delay + 2 * shape.jitter).as_secs_f64() * 1.25) as usize;
    wanted.clamp(IN_FLIGHT, MOST_IN_FLIGHT)
}
