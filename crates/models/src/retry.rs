//! Decision whether a failed exchange is retried, and the delay, as in the official clients. The functions are pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::HeaderMap;

use super::ModelFailure;
use super::wire::{self, AttemptError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Maximum number of retries after the first attempt.
    pub most: u32,
    /// Maximum time from the start of the first attempt to the start of the last attempt.
    pub within: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { most: 4, within: Duration::from_secs(180) }
    }
}

/// Advice of the server about a retry, from the response headers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Advice {
    pub after: Option<Duration>,
    pub again: Option<bool>,
}

impl Advice {
    #[must_use]
    pub fn of(headers: &HeaderMap, now: Timestamp) -> Self {
        let again = match wire::text(headers, "x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        let seconds = |text: &str| text.trim().parse::<f64>().ok();
        let span = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        let date = |text: &str| {
            let at = rfc2822::parse(text.trim()).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).ok()
        };
        let millis = wire::text(headers, "retry-after-ms").and_then(seconds).and_then(|millis| span(millis / 1000.0));
        let after = millis.or_else(|| {
            let text = wire::text(headers, "retry-after")?;
            seconds(text).map_or_else(|| date(text), span)
        });
        Self { after: after.filter(|after| !after.is_zero()), again }
    }
}

/// Decision after a failed attempt of an exchange.
#[derive(Debug, PartialEq)]
pub enum Next {
    Again(Duration),
    /// Fails the exchange. The text, if any, is appended to the error.
    GiveUp(Option<String>),
}

/// Decides whether to retry after failed attempt `attempt`, counted from 1. `elapsed` is the time since the start of the first attempt.
/// `draw` is a random number between 0 and 1.
#[must_use]
pub fn next(retries: Retries, attempt: u32, elapsed: Duration, trouble: &AttemptError, advice: Advice, draw: f64) -> Next {
    // An empty account stays empty while we wait, even if the server advises a retry.
    let again = trouble.kind != ModelFailure::Quota && advice.again.unwrap_or(trouble.again);
    if !again || retries.most == 0 {
        return Next::GiveUp(None);
    }
    if attempt > retries.most {
        return Next::GiveUp(Some(format!("tried {attempt} times")));
    }
    let wait = advice.after.unwrap_or_else(|| backoff(attempt, draw));
    if elapsed + wait > retries.within {
        let words = |span: Duration| humantime::format_duration(Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)));
        let who = if advice.after.is_some() { "the server asks to wait" } else { "the next try would wait" };
        let (wait, within) = (words(wait), words(retries.within));
        return Next::GiveUp(Some(format!("{who} {wait}, and tries may take {within} in all, of which {} are over", words(elapsed))));
    }
    Next::Again(wait)
}

/// Returns the delay before a retry: half a second, doubled per attempt up to eight seconds. Up to a quarter is subtracted at random.
fn backoff(attempt: u32, draw: f64) -> Duration {
    let longest = (0.5 * 2.0_f64.powi(attempt.saturating_sub(1).min(16).cast_signed())).min(8.0);
    Duration::from_secs_f64(longest * (1.0 - 0.25 * draw.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn after(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        Advice::of(&headers(pairs), "2015-10-21T07:28:00Z".parse().expect("time")).after
    }

    #[test]
    fn retry_headers_are_parsed() {
        assert_eq!(after(&[("retry-after", "1.5")]), Some(Duration::from_millis(1500)));
        assert_eq!(after(&[("retry-after", "60"), ("retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        assert_eq!(after(&[("retry-after", "Wed, 21 Oct 2015 07:28:07 GMT")]), Some(Duration::from_secs(7)));
        assert_eq!(after(&[("retry-after", "Wed, 21 Oct 2015 07:27:07 GMT")]), None);
        assert_eq!(after(&[("retry-after", "soon")]), None);
        assert_eq!(after(&[("retry-after", "-1")]), None);
        assert_eq!(Advice::of(&headers(&[("x-should-retry", "false")]), Timestamp::UNIX_EPOCH).again, Some(false));
    }

    #[test]
    fn delays_grow_until_retries_are_exhausted() {
        let retries = Retries { most: 6, within: Duration::from_secs(60) };
        let trouble = AttemptError { again: true, ..AttemptError::new(ModelFailure::Overloaded, "") };
        let wait = |attempt, draw| next(retries, attempt, Duration::ZERO, &trouble, Advice::default(), draw);
        for (attempt, millis) in [(1, 500), (2, 1000), (3, 2000), (4, 4000), (5, 8000), (6, 8000)] {
            assert_eq!(wait(attempt, 0.0), Next::Again(Duration::from_millis(millis)));
            assert_eq!(wait(attempt, 1.0), Next::Again(Duration::from_millis(millis / 4 * 3)));
        }
        assert_eq!(wait(7, 0.0), Next::GiveUp(Some("tried 7 times".into())));
    }

    #[test]
    fn server_delay_is_respected_up_to_a_limit() {
        let retries = Retries { most: 2, within: Duration::from_secs(60) };
        let decide = |kind, again, advice| {
            let trouble = AttemptError { again, ..AttemptError::new(kind, "") };
            next(retries, 1, Duration::from_secs(10), &trouble, advice, 0.0)
        };
        let advice = |seconds| Advice { after: Some(Duration::from_secs(seconds)), again: None };
        assert_eq!(decide(ModelFailure::RateLimit, true, advice(50)), Next::Again(Duration::from_secs(50)));
        let Next::GiveUp(Some(why)) = decide(ModelFailure::RateLimit, true, advice(51)) else { panic!("too long") };
        assert_eq!(why, "the server asks to wait 51s, and tries may take 1m in all, of which 10s are over");
        let says = |again| Advice { after: None, again: Some(again) };
        assert_eq!(decide(ModelFailure::Server, true, says(false)), Next::GiveUp(None));
        assert_eq!(decide(ModelFailure::Request, false, says(true)), Next::Again(Duration::from_millis(500)));
        assert_eq!(decide(ModelFailure::Quota, true, says(true)), Next::GiveUp(None));
    }
}
