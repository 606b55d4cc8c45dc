//! One direction of a connection: reads and writes within the limits of its path.

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

/// Largest number of bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Buffer limit of a delayed direction: the data in flight on a link of 10 ms at 400 MB/s. Beyond it the sender waits.
const IN_FLIGHT: usize = 4 * 1024 * 1024;
/// Upper limit of that buffer, if a path's delay and rate require more.
const MOST_IN_FLIGHT: usize = 64 * 1024 * 1024;

thread_local! {
    /// Read buffer shared by all connections, which are on one thread and pass most bytes straight on.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    /// Number of bytes that are already written.
    written: usize,
}

/// Path of a direction, with the state for one connection.
struct Follows {
    lane: Arc<ActivePath>,
    scatter: DelaySampler,
    /// True if the connection is reset by the next data it carries.
    doomed: bool,
    in_flight: usize,
}

/// State of one direction. The state outlives any change of the paths.
pub(super) struct Pump {
    /// Number of the connection among those of the pair.
    number: u64,
    follows: Option<Follows>,
    queue: VecDeque<Chunk>,
    queued: usize,
    /// Set when the sender has ended: time at which the end is passed on.
    end: Option<Instant>,
    /// True after the end has been passed on.
    closed: bool,
    /// True if bytes or the end were swallowed, so that the stream cannot continue.
    broken: bool,
    /// Alarm for the release of held bytes.
    due: Alarm,
    /// Alarm for the time at which the rate admits more bytes.
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

    /// Switches to `lane`. Data in flight arrives no later than data that is sent after the change.
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

    /// Returns true if the stream has lost bytes and is not a black hole any more, so that it must be reset.
    pub(super) fn is_broken(&self) -> bool {
        self.broken && self.cut() != Some(CutMode::Drop)
    }

    /// Returns the delay of the next message. Used for the handshake, which the relay does not see.
    pub(super) fn delay(&mut self) -> Duration {
        self.follows.as_mut().map_or(Duration::ZERO, |follows| follows.scatter.delay(&follows.lane.path.shape))
    }

    /// Forwards bytes. Ready when the sender's end has been passed on or discarded, or when the connection has failed.
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
                // The other side may be gone already, which does not affect data sent before.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            // Without a delay, no more is read before the last bytes are written, so that the sender notices a slow receiver.
            if delivered.is_pending() && self.follows.as_ref().is_none_or(|follows| self.queued >= follows.in_flight) {
                return Poll::Pending;
            }
            if let Some(free) = self.follows.as_ref().and_then(|follows| follows.lane.busy_until()) {
                ready!(self.free.poll(cx, free));
            }
            ready!(self.poll_take(cx, from, to))?;
        }
    }

    /// Writes due bytes. Ready when no bytes are held.
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
                // The end stays in order: it follows all data in flight.
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

    /// Returns the arrival time of bytes that are read now. They never arrive before bytes that were read earlier.
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

    /// Reads and discards. Ready when the sender has ended.
    pub(super) fn poll_swallow(&mut self, cx: &mut Context<'_>, from: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        if !self.queue.is_empty() || self.end.is_some() {
            self.queue.clear();
            self.queued = 0;
            self.broken = true;
        }
        while self.end.is_none() {
            let count = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                // A sender that died looks the same here as one that ended.
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

    /// Reads a small number of bytes and holds them, to notice the sender's data and its end. Ready when the sender has ended.
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

/// Returns the buffer limit of a path, such that its delay does not reduce its rate; 0 for a path without delay.
fn in_flight(shape: &Shape) -> usize {
    if shape.delay.is_zero() && shape.jitter.is_zero() && shape.rate.is_none() {
        return 0;
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a bound")]
    let wanted = (shape.rate.unwrap_or(0) as f64 * (shape.delay + 2 * shape.jitter).as_secs_f64() * 1.25) as usize;
    wanted.clamp(IN_FLIGHT, MOST_IN_FLIGHT)
}
