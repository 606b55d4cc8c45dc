//! Rate limits of the fake model server. A window begins with its first request. After the window, the next request begins a new window.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::problem::{ApiProblem, FakeWire};
use super::script::Rate;

/// Number of requests that the rate limit headers announce if the script sets no limit. Requests are never refused in that case.
const REQUESTS: u64 = 1_000;
const TOKENS: u64 = 600_000;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct FakeLimits {
    requests: u64,
    tokens: u64,
    per: Duration,
    window: Mutex<Option<Window>>,
    /// True if the server refuses requests beyond the limit.
    strict: bool,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    until: Instant,
    requests: u64,
    tokens: u64,
}

/// Rate limit of the current window, with the remaining requests and tokens.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    requests: (u64, u64),
    tokens: (u64, u64),
    resets: Duration,
}

impl FakeLimits {
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        let most = |given: Option<u64>, usual: u64| given.unwrap_or(if rate.is_some() { u64::from(u32::MAX) } else { usual });
        Self {
            requests: most(rate.and_then(|rate| rate.requests), REQUESTS),
            tokens: most(rate.and_then(|rate| rate.tokens), TOKENS),
            per: rate.map_or(WINDOW, |rate| rate.per.0),
            window: Mutex::new(None),
            strict: rate.is_some(),
        }
    }

    /// Counts a request with its tokens in the current window, and returns the remaining quota.
    ///
    /// # Errors
    /// Returns the error for the client if the limit is exceeded.
    pub fn take(&self, now: Instant, tokens: u64, wire: FakeWire) -> Result<Standing, ApiProblem> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = window.filter(|window| window.until > now).unwrap_or(Window { until: now + self.per, requests: 0, tokens: 0 });
        let full = current.requests >= self.requests || current.tokens.saturating_add(tokens) > self.tokens;
        if !full {
            current.requests += 1;
        }
        let asked = if full { 0 } else { tokens };
        current.tokens = current.tokens.saturating_add(asked);
        *window = Some(current);
        let standing = Standing {
            requests: (self.requests, self.requests.saturating_sub(current.requests)),
            tokens: (self.tokens, self.tokens.saturating_sub(current.tokens)),
            resets: current.until - now,
        };
        if !(full && self.strict) {
            return Ok(standing);
        }
        let (wait, milliseconds) = (standing.resets.as_secs_f64().ceil(), standing.resets.as_millis() + 1);
        let problem = ApiProblem::new(429, "This request would exceed your rate limit").header("retry-after", &wait);
        let problem = problem.header("retry-after-ms", &milliseconds);
        Err(standing.headers(wire).into_iter().fold(problem, |problem, (name, value)| problem.header(&name, &value)))
    }
}

impl Standing {
    /// Returns the rate limit headers in the format of the real server.
    #[must_use]
    pub fn headers(&self, wire: FakeWire) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        match wire {
            FakeWire::Anthropic => {
                let reset = (Timestamp::now() + self.resets).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let counts =
                    [("requests", self.requests), ("tokens", self.tokens), ("input-tokens", self.tokens), ("output-tokens", self.tokens)];
                for (of, (limit, remaining)) in counts {
                    headers.push((format!("anthropic-ratelimit-{of}-limit"), limit.to_string()));
                    headers.push((format!("anthropic-ratelimit-{of}-remaining"), remaining.to_string()));
                    headers.push((format!("anthropic-ratelimit-{of}-reset"), reset.clone()));
                }
            }
            FakeWire::OpenAi => {
                let seconds = self.resets.as_secs();
                let reset = match (seconds / 60, seconds % 60) {
                    (0, 0) => format!("{}ms", self.resets.as_millis()),
                    (0, seconds) => format!("{seconds}s"),
                    (minutes, seconds) => format!("{minutes}m{seconds}s"),
                };
                for (of, (limit, remaining)) in [("requests", self.requests), ("tokens", self.tokens)] {
                    headers.push((format!("x-ratelimit-limit-{of}"), limit.to_string()));
                    headers.push((format!("x-ratelimit-remaining-{of}"), remaining.to_string()));
                    headers.push((format!("x-ratelimit-reset-{of}"), reset.clone()));
                }
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Span;

    #[test]
    fn full_window_refuses_and_names_its_end() {
        let rate = Rate { requests: Some(2), tokens: Some(100), per: Span(Duration::from_secs(90)) };
        let limits = FakeLimits::new(Some(rate));
        let began = Instant::now();
        let take = |tokens| limits.take(began, tokens, FakeWire::OpenAi);
        let header = |headers: &[(String, String)], name: &str| headers.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!(header(&take(60).unwrap().headers(FakeWire::OpenAi), "x-ratelimit-remaining-tokens"), "40");
        let refused = take(41).unwrap_err();
        assert_eq!((refused.status, header(&refused.headers, "retry-after")), (429, "90".into()));
        assert_eq!(header(&refused.headers, "x-ratelimit-reset-requests"), "1m30s");
        assert!(take(40).is_ok() && take(0).is_err());
        assert!(limits.take(began + Duration::from_secs(90), 100, FakeWire::OpenAi).is_ok());
    }
}
