//! One direction of a connection: reads here, writes there, no more and no sooner than its path allows.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alarm::{Alarm, Clock};
use super::path::Lane;
use crate::cluster::scatter::Scatter;
use crate::cluster::{CutMode, Shape};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Bytes a delayed direction may hold: what a link of 10 ms carries at 400 MB/s. Beyond it the sender waits.
const IN_FLIGHT: usize = 4 * 1024 * 1024;
/// The same where a path's delay and rate ask for more.
const MOST_IN_FLIGHT: usize = 64 * 1024 * 1024;

thread_local! {
    /// All connections live on one thread and pass most bytes straight on, so they share one buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    /// Bytes of it that are already written.
    written: usize,
}

/// The path a direction follows, and what of it concerns one connection.
struct Follows {
    lane: Arc<Lane>,
    scatter: Scatter,
    /// It is reset by the next data it carries.
    doomed: bool,
    in_flight: usize,
}

/// The state of one direction. It outlives any change of the paths.
pub(super) struct Pump {
    /// Which connection it is of, among those of the pair.
    number: u64,
    follows: Option<Follows>,
    queue: VecDeque<Chunk>,
    queued: usize,
    /// The sender has ended: nothing more to read.
    end: Option<Instant>,
    /// The end has been passed on.
    closed: bool,
    /// Bytes, or the end, were swallowed: the stream cannot go on.
    broken: bool,
    /// For what is held, and for the rate to let more in.
    due: Alarm,
    free: Alarm,
}

impl Pump {
    pub(super) fn new(clock: &Arc<Clock>, number: u64) -> Self {
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

    /// Goes on along `lane`. What is under way arrives no later than what is sent from now on may.
    pub(super) fn follow(&mut self, lane: Option<Arc<Lane>>) {
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

    pub(super) fn lane(&self) -> Option<&Lane> {
        self.follows.as_ref().map(|follows| &*follows.lane)
    }

    pub(super) fn cut(&self) -> Option<CutMode> {
        self.lane().and_then(Lane::cut)
    }

    /// Whether it cannot go on: it has lost bytes and is no black hole any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken && self.cut() != Some(CutMode::Drop)
    }

    /// How long the next message would take: for the handshake, which nobody here sees.
    pub(super) fn delay(&mut self) -> Duration {
        self.follows.as_mut().map_or(Duration::ZERO, |follows| follows.scatter.delay(&follows.lane.path.shape))
    }

    /// Ready when the sender's end has been passed on (or swallowed), or the connection failed.
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
                // The other side may be gone already, which is no failure of what it was sent.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            // What nothing delays is not read before the last bytes are written: the sender feels what the receiver does.
            if delivered.is_pending() && self.follows.as_ref().is_none_or(|follows| self.queued >= follows.in_flight) {
                return Poll::Pending;
            }
            if let Some(free) = self.follows.as_ref().and_then(|follows| follows.lane.busy_until()) {
                ready!(self.free.poll(cx, free));
            }
            ready!(self.poll_take(cx, from, to))?;
        }
    }

    /// Writes what is due. Ready when nothing is held.
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

    /// Reads once; what can be written at once never touches the queue.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let longest = self.lane().and_then(Lane::longest_read).unwrap_or(CHUNK).min(CHUNK);
            let mut buffer = ReadBuf::new(&mut scratch[..longest]);
            ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            let now = Instant::now();
            if bytes.is_empty() {
                // In order: after all that is under way.
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

    /// When bytes that are read now have arrived. Never before those that were read before them.
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

    /// Reads and forgets. Ready when the sender has ended.
    pub(super) fn poll_swallow(&mut self, cx: &mut Context<'_>, from: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        if !self.queue.is_empty() || self.end.is_some() {
            self.queue.clear();
            self.queued = 0;
            self.broken = true;
        }
        while self.end.is_none() {
            let count = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                // A sender that died is as silent here as one that ended.
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

    /// Reads a little and keeps it: so we hear of the sender's end, and that it has something to say. Ready when it has ended.
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

/// What a path may hold so that its delay does not make it slower than its rate; nothing where it delays nothing.
fn in_flight(shape: &Shape) -> usize {
    if shape.delay.is_zero() && shape.jitter.is_zero() && shape.rate.is_none() {
        return 0;
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a bound")]
    let wanted = (shape.rate.unwrap_or(0) as f64 * (shape.delay + 2 * shape.jitter).as_secs_f64() * 1.25) as usize;
    wanted.clamp(IN_FLIGHT, MOST_IN_FLIGHT)
}
