//! One direction of a connection: reads here, writes there, no more than the rules allow.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep};

use super::rules::{Cut, Effects};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Bytes a delayed direction may hold: what a link of 10 ms carries at 100 MB/s. Beyond it the sender waits.
const IN_FLIGHT: usize = 1024 * 1024;

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

/// The state of one direction. It outlives any change of the rules.
#[derive(Default)]
pub(super) struct Pump {
    queue: VecDeque<Chunk>,
    queued: usize,
    /// The sender has ended: nothing more to read.
    end: Option<Instant>,
    /// The end has been passed on.
    closed: bool,
    /// Bytes, or the end, were swallowed: the stream cannot go on.
    pub(super) broken: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pump {
    /// Ready when the sender's end has been passed on (or swallowed), or the connection failed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        effects: Effects,
    ) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        match effects.cut {
            None => self.poll_pass(cx, from, to, effects.delay),
            Some(Cut::Drop) => self.poll_swallow(cx, from),
            Some(Cut::Stall | Cut::Reject) => Poll::Pending,
        }
    }

    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        delay: Duration,
    ) -> Poll<io::Result<()>> {
        loop {
            let delivered = self.poll_deliver(cx, to)?;
            if let Some(end) = self.end {
                ready!(delivered);
                ready!(self.poll_due(cx, end));
                // The other side may be gone already, which is no failure of what it was sent.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            // Without a delay nothing is read before the last bytes are written: the sender feels what the receiver does.
            if delivered.is_pending() && (delay.is_zero() || self.queued >= IN_FLIGHT) {
                return Poll::Pending;
            }
            ready!(self.poll_take(cx, from, to, delay))?;
        }
    }

    /// Writes what is due. Ready when nothing is held.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, to: &mut WriteHalf<'_>) -> io::Result<Poll<()>> {
        while let Some(due) = self.queue.front().map(|chunk| chunk.due) {
            if self.poll_due(cx, due).is_pending() {
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
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        delay: Duration,
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.end = Some(Instant::now() + delay);
                return Poll::Ready(Ok(()));
            }
            let written = if delay.is_zero() && self.queue.is_empty() {
                match Pin::new(to).poll_write(cx, bytes) {
                    Poll::Ready(count) => count?,
                    Poll::Pending => 0,
                }
            } else {
                0
            };
            if written < bytes.len() {
                let rest = bytes[written..].to_vec();
                self.queued += rest.len();
                self.queue.push_back(Chunk { due: Instant::now() + delay, bytes: rest, written: 0 });
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Reads and forgets. Ready when the sender has ended.
    pub(super) fn poll_swallow(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf<'_>) -> Poll<io::Result<()>> {
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
            self.broken |= count.is_ready();
            if ready!(count) == 0 {
                self.end = Some(Instant::now());
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a little and keeps it, to learn of the sender's end while there is nobody to write to yet. Ready when it has ended.
    pub(super) fn poll_hold(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf<'_>) -> Poll<()> {
        while self.queued < CHUNK {
            let mut bytes = vec![0; CHUNK / 16];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer));
            let count = buffer.filled().len();
            if read.is_err() || count == 0 {
                return Poll::Ready(());
            }
            bytes.truncate(count);
            self.queued += count;
            self.queue.push_back(Chunk { due: Instant::now(), bytes, written: 0 });
        }
        Poll::Pending
    }

    fn poll_due(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}
