//! Limiter of concurrent exchanges per server and key. All trials of a process share the limiter, so that they do not cause refusals for
//! each other. The window of concurrent exchanges grows by one after a full window without a refusal. The window halves when the server
//! reports overload.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::key::ApiKey;
use super::wire::Allowance;

const FIRST: f64 = 16.0;
const MOST: f64 = 128.0;
/// Maximum wait that a server can impose. A server that requests a longer wait refuses the next request again.
const LONGEST: Duration = Duration::from_secs(120);

/// All limiters of a process, by server and key.
#[derive(Debug, Default)]
pub(crate) struct KeyLimiters(Mutex<HashMap<(String, String), Arc<Limiter>>>);

impl KeyLimiters {
    pub fn of(&self, base_url: &str, key: Option<&ApiKey>) -> Arc<Limiter> {
        let name = (base_url.to_owned(), key.map(ApiKey::fingerprint).unwrap_or_default());
        let mut limiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(limiters.entry(name).or_default())
    }
}

#[derive(Debug)]
pub struct Limiter {
    core: Mutex<Core>,
    /// Semaphore that lets waiting exchanges proceed in the order of their arrival.
    turn: Semaphore,
    changed: Notify,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { core: Mutex::default(), turn: Semaphore::new(1), changed: Notify::new() }
    }
}

impl Limiter {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for permission to begin an exchange. If the exchange has to wait, calls `waits` once with the reason and the expected
    /// duration. The duration is zero if unknown.
    pub async fn admit(self: &Arc<Self>, waits: impl Fn(String, Duration)) -> Permit {
        let mut told = false;
        let mut tell = |why: String, wait: Duration| {
            if !std::mem::replace(&mut told, true) {
                waits(why, wait);
            }
        };
        let turn = match self.turn.try_acquire() {
            Ok(turn) => Some(turn),
            Err(_) => {
                let (why, wait) = self.core().why(Instant::now());
                tell(why, wait);
                // The semaphore is never closed.
                self.turn.acquire().await.ok()
            }
        };
        loop {
            let changed = self.changed.notified();
            let now = Instant::now();
            let admission = self.core().admit(now);
            match admission {
                Admission::Now => break,
                Admission::At(at, why) => {
                    tell(why, at.saturating_duration_since(now));
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = changed => {}
                    }
                }
                Admission::Full => {
                    let (why, wait) = self.core().why(now);
                    tell(why, wait);
                    changed.await;
                }
            }
        }
        drop(turn);
        Permit { limiter: Arc::clone(self), begun: Instant::now() }
    }
}

/// Permission for one exchange. The permission is returned when this value is dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    begun: Instant,
}

impl Permit {
    /// Updates the limiter with the remaining rate limits from the headers of a response.
    pub fn heard(&self, allowances: &[Allowance]) {
        self.limiter.core().heard(Instant::now(), allowances);
    }

    pub fn succeeded(&self) {
        self.limiter.core().succeeded();
        self.limiter.changed.notify_one();
    }

    /// Shrinks the window after the server refused a request because of overload or a rate limit. `after` is the wait that the server
    /// requested.
    pub fn refused(&self, after: Option<Duration>) {
        self.limiter.core().refused(self.begun, Instant::now(), after);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.core().left();
        self.limiter.changed.notify_one();
    }
}

#[derive(Debug)]
struct Core {
    /// Maximum number of concurrent exchanges.
    window: f64,
    running: u32,
    /// Time until which no exchange may begin, with the reason. `None` if exchanges may begin.
    closed: Option<(Instant, String)>,
    shrunk: Option<Instant>,
}

impl Default for Core {
    fn default() -> Self {
        Self { window: FIRST, running: 0, closed: None, shrunk: None }
    }
}

#[derive(Debug, PartialEq)]
enum Admission {
    Now,
    At(Instant, String),
    /// The maximum number of exchanges is running. An exchange may begin when another one ends.
    Full,
}

impl Core {
    fn admit(&mut self, now: Instant) -> Admission {
        if let Some((until, why)) = self.closed.as_ref().filter(|(until, _)| *until > now) {
            return Admission::At(*until, why.clone());
        }
        self.closed = None;
        if f64::from(self.running) + 1.0 > self.window.max(1.0) {
            return Admission::Full;
        }
        self.running += 1;
        Admission::Now
    }

    /// Returns the reason why an exchange has to wait, and the expected duration. The duration is zero if unknown.
    fn why(&self, now: Instant) -> (String, Duration) {
        match &self.closed {
            Some((until, why)) if *until > now => (why.clone(), *until - now),
            _ => (format!("{} exchanges run with this key", self.running), Duration::ZERO),
        }
    }

    fn left(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    fn succeeded(&mut self) {
        self.window = (self.window + 1.0 / self.window).min(MOST);
    }

    fn refused(&mut self, begun: Instant, now: Instant, after: Option<Duration>) {
        // Refusals of exchanges that started before the last reduction carry no new information.
        if self.shrunk.is_none_or(|shrunk| begun >= shrunk) {
            // The number of running exchanges is halved, not the unused window.
            self.window = (self.window.min(f64::from(self.running)) / 2.0).max(1.0);
            self.shrunk = Some(now);
        }
        if let Some(after) = after {
            self.close(now + after.min(LONGEST), "the server asked to wait".into());
        }
    }

    fn heard(&mut self, now: Instant, allowances: &[Allowance]) {
        for allowance in allowances.iter().filter(|allowance| allowance.remaining == 0 && !allowance.reset.is_zero()) {
            self.close(now + allowance.reset.min(LONGEST), format!("no {} are left of the key's limit", allowance.of.replace('-', " ")));
        }
    }

    fn close(&mut self, until: Instant, why: String) {
        if self.closed.as_ref().is_none_or(|(there, _)| *there < until) {
            self.closed = Some((until, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(core: &mut Core, now: Instant) -> u32 {
        let mut count = 0;
        while core.admit(now) == Admission::Now {
            count += 1;
        }
        count
    }

    #[test]
    fn burst_of_refusals_halves_the_window_once_and_it_grows_again() {
        let (mut core, start) = (Core::default(), Instant::now());
        assert_eq!(admitted(&mut core, start), 16);
        let later = start + Duration::from_secs(1);
        for _ in 0..16 {
            core.refused(start, later, None);
            core.left();
        }
        assert_eq!(admitted(&mut core, later), 8);
        core.refused(later, later, None);
        assert!((core.window - 4.0).abs() < 1e-9, "{}", core.window);
        // Four successes fill a window, so one more may run.
        for _ in 0..5 {
            core.succeeded();
        }
        assert!(core.window >= 5.0 && core.window < 6.0, "{}", core.window);
        for _ in 0..100_000 {
            core.succeeded();
        }
        assert!((core.window - MOST).abs() < 1e-9);
        core.running = 0;
        core.refused(later, later, None);
        assert_eq!(admitted(&mut core, later), 1, "one may always run");
    }

    #[test]
    fn exhausted_allowance_causes_a_wait() {
        let (mut core, now) = (Core::default(), Instant::now());
        let allowance = |remaining, seconds| Allowance { of: "input-tokens".into(), remaining, reset: Duration::from_secs(seconds) };
        core.heard(now, &[allowance(1, 30)]);
        assert_eq!(core.admit(now), Admission::Now);
        core.heard(now, &[allowance(0, 30), allowance(0, 20)]);
        let until = now + Duration::from_secs(30);
        assert_eq!(core.admit(now), Admission::At(until, "no input tokens are left of the key's limit".into()));
        assert_eq!(core.why(now + Duration::from_secs(10)).1, Duration::from_secs(20));
        assert_eq!(core.admit(until), Admission::Now);
        core.refused(now, until, Some(Duration::from_secs(1_000_000)));
        assert_eq!(core.admit(until), Admission::At(until + LONGEST, "the server asked to wait".into()));
    }

    #[tokio::test]
    async fn waiting_exchanges_proceed_in_order_of_arrival() {
        let limits = KeyLimiters::default();
        let limiter = limits.of("http://a", Some(&ApiKey::new("one")));
        assert!(Arc::ptr_eq(&limiter, &limits.of("http://a", Some(&ApiKey::new("one")))));
        assert!(!Arc::ptr_eq(&limiter, &limits.of("http://a", Some(&ApiKey::new("two")))));
        limiter.core().window = 1.0;
        let first = limiter.admit(|why, _| panic!("{why}")).await;
        let (order, waits) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let mut tasks = Vec::new();
        for number in 0..5_u32 {
            let (limiter, order, told) = (Arc::clone(&limiter), Arc::clone(&order), Arc::clone(&waits));
            tasks.push(chaosrun_base::task::spawn(async move {
                let permit = limiter.admit(|_, _| told.add_permits(1)).await;
                order.lock().expect("a lock").push(number);
                drop(permit);
            }));
            // A task is in the queue once it reports that it waits.
            waits.acquire_many(number + 1).await.expect("open").forget();
            waits.add_permits(number as usize + 1);
        }
        first.refused(Some(Duration::from_millis(300)));
        // Cancelled waiters do not take a turn.
        tasks[2].abort();
        let start = Instant::now();
        drop(first);
        for task in tasks {
            task.await.ok();
        }
        assert_eq!(*order.lock().expect("a lock"), [0, 1, 3, 4]);
        assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    }
}
