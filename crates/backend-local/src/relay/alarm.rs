//! Timers with a higher resolution than the milliseconds of tokio, since the delay of a link may be below a millisecond.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// Shortest timeout of a kernel timer. A timeout of zero would disarm the timer.
const SOONEST: Duration = Duration::from_nanos(1);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Set of all alarms of a relay. One kernel timer is armed for the earliest alarm.
pub(super) struct AlarmClock {
    timer: AsyncFd<Timer>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    wakers: BTreeMap<(Instant, u64), Waker>,
    last: u64,
}

impl AlarmClock {
    /// Creates the alarm clock. Must be called within the tokio runtime in which the alarms are awaited.
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the timer owns its descriptor, and is only borrowed while the registration lasts.
        let timer = unsafe { AsyncFd::register(Timer(timer)) }?;
        Ok(Arc::new(Self { timer, waiting: Mutex::default() }))
    }

    /// Wakes the tasks whose alarms are due. Runs until the runtime is shut down.
    pub(super) async fn ring(self: Arc<Self>) {
        // An error means that the runtime is being shut down.
        while let Ok(mut ready) = self.timer.readable().await {
            // After the read the timer becomes ready again only at the next expiry.
            let _ = self.timer.get_ref().0.wait();
            ready.clear_ready();
            self.wake();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let mut waiting = self.waiting();
        let now = Instant::now();
        while let Some(first) = waiting.wakers.first_entry() {
            if first.key().0 > now {
                return self.arm(first.key().0, now);
            }
            first.remove().wake();
        }
    }

    fn arm(&self, due: Instant, now: Instant) {
        let after = due.saturating_duration_since(now).max(SOONEST);
        // The call fails only for invalid times, which do not occur here.
        let _ = self.timer.get_ref().0.set(Expiration::OneShot(TimeSpec::from_duration(after)), TimerSetTimeFlags::empty());
    }

    /// Creates an alarm for one task. The alarm is not set.
    pub(super) fn alarm(self: &Arc<Self>) -> Alarm {
        Alarm { clock: Arc::clone(self), set: None }
    }
}

/// Alarm that wakes one task at a given time.
pub(super) struct Alarm {
    clock: Arc<AlarmClock>,
    set: Option<(Instant, u64)>,
}

impl Alarm {
    /// Polls the alarm: ready if the time `due` has come. Otherwise the task is woken at `due`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let now = Instant::now();
        if due <= now {
            self.unset();
            return Poll::Ready(());
        }
        if self.set.is_some_and(|(set, _)| set != due) {
            self.unset();
        }
        let mut waiting = self.clock.waiting();
        let key = *self.set.get_or_insert_with(|| {
            waiting.last += 1;
            (due, waiting.last)
        });
        waiting.wakers.insert(key, cx.waker().clone());
        if waiting.wakers.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.clock.arm(due, now);
        }
        Poll::Pending
    }

    pub(super) async fn until(&mut self, due: Instant) {
        poll_fn(|cx| self.poll(cx, due)).await;
    }

    fn unset(&mut self) {
        if let Some(key) = self.set.take() {
            self.clock.waiting().wakers.remove(&key);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}
