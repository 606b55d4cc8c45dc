//! Check of rate limits: compares the number of allowed requests with the limit. The check needs only the answers of the system.
//!
//! A limiter counts a request at some time between its invocation and its answer, which no client can determine. A limit of `L` in any
//! window of length `W` allows at most `k * L` requests in any interval of length `k * W`. A violation is therefore proven, regardless of
//! the order in which requests were counted, if more than `k * L` allowed requests have both their invocation and their answer within one
//! interval of length `k * W`. Requests without an answer may have been allowed as well. They could only increase the count, so they are
//! ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CheckResult;
use crate::history::{History, OperationOutcome, RecordedOperation};
use crate::sequence::{OperationVerb, Sequence};
use chaosrun_scenario::model::RateLimit;

/// Largest number of windows in one checked interval. Longer intervals reveal a limiter that slightly exceeds its limit in each window.
const MOST_WINDOWS: u64 = 32;
/// Assumed resolution of the limiter's clock in microseconds, since the clock may count in milliseconds.
const GRAIN_US: u64 = 2_000;
/// Reciprocal of the largest assumed relative drift of the limiter's clock.
const DRIFT: u64 = 1_000;

/// Checks a rate limit history. `lost` in the result is the number of requests over all keys that provably exceed the limit.
#[must_use]
pub fn check(history: &History, sequence: &Sequence) -> CheckResult {
    let mut checked = CheckResult::default();
    let Some(rule) = history.limit else { return checked };
    let mut allowed: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    for check in history
        .operations
        .iter()
        .filter(|operation| operation.verb == OperationVerb::Check && operation.outcome == OperationOutcome::Acknowledged)
    {
        allowed.entry(check.key).or_default().push(times(check));
    }
    for (key, times) in allowed {
        checked.read += u64::try_from(times.len()).unwrap_or(u64::MAX);
        let Some(worst) = worst(times, rule) else { continue };
        checked.lose(worst.excess, || {
            let most = worst.windows * u64::from(rule.limit);
            let within = humantime::format_duration(Duration::from_micros(worst.stretch_us));
            let from = Duration::from_micros(worst.from_us).as_secs_f64();
            format!(
                "{}: {} allowed within {within} from {from:.3} s on, at most {most} may be",
                sequence.key_text(key),
                most + worst.excess
            )
        });
    }
    checked
}

fn times(operation: &RecordedOperation) -> (u64, u64) {
    (operation.invoked_us, operation.completed_us)
}

/// Interval in which the number of allowed requests exceeds the limit most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Worst {
    excess: u64,
    windows: u64,
    from_us: u64,
    stretch_us: u64,
}

/// Returns the interval with the largest excess. Only intervals that begin with an invocation are tried, since no other interval contains
/// more requests.
fn worst(mut times: Vec<(u64, u64)>, rule: RateLimit) -> Option<Worst> {
    let window_us = u64::try_from(rule.window.as_micros()).unwrap_or(u64::MAX);
    times.sort_unstable();
    let mut answers: Vec<u64> = times.iter().map(|(_, answered)| *answered).collect();
    answers.sort_unstable();
    let (first, last) = (times.first()?.0, *answers.last()?);
    let most_windows = ((last - first) / window_us.max(1) + 1).min(MOST_WINDOWS);
    let mut answered = Counts::new(answers.len());
    let mut worst: Option<Worst> = None;
    // The loop runs from the last invocation to the first. `answered` contains the requests invoked at or after the current one.
    for (index, (from_us, answered_us)) in times.iter().enumerate().rev() {
        answered.add(answers.partition_point(|answer| answer < answered_us));
        // If several requests have the same invocation time, the first of them begins an interval that contains all of them.
        if index > 0 && times[index - 1].0 == *from_us {
            continue;
        }
        for windows in 1..=most_windows {
            let whole = window_us.saturating_mul(windows);
            let stretch_us = whole.saturating_sub(whole / DRIFT).saturating_sub(GRAIN_US);
            let within = answered.below(answers.partition_point(|answer| *answer < from_us.saturating_add(stretch_us)));
            let excess = within.saturating_sub(windows * u64::from(rule.limit));
            if excess > worst.map_or(0, |worst| worst.excess) {
                worst = Some(Worst { excess, windows, from_us: *from_us, stretch_us });
            }
        }
    }
    worst
}

/// Fenwick tree that counts the entries below a rank in logarithmic time.
struct Counts(Vec<u64>);

impl Counts {
    fn new(ranks: usize) -> Self {
        Self(vec![0; ranks + 1])
    }

    fn add(&mut self, rank: usize) {
        let mut at = rank + 1;
        while let Some(count) = self.0.get_mut(at) {
            *count += 1;
            at += at & at.wrapping_neg();
        }
    }

    fn below(&self, rank: usize) -> u64 {
        let mut at = rank;
        let mut sum = 0;
        while at > 0 {
            sum += self.0.get(at).copied().unwrap_or_default();
            at -= at & at.wrapping_neg();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::simulated::{SimulatedHistory, sequence};
    use chaosrun_scenario::model::Model;

    const WINDOW_US: u64 = 1_000_000;
    const LIMIT: u32 = 5;

    fn judge(requests: &[(u64, u64, OperationOutcome)]) -> CheckResult {
        let mut story = SimulatedHistory::default();
        for (invoked, completed, outcome) in requests {
            story.check(0, *invoked, *completed, *outcome);
        }
        let limit = Some(RateLimit { limit: LIMIT, window: Duration::from_micros(WINDOW_US) });
        check(&History { limit, ..story.history(Model::Limit) }, &sequence(Model::Limit))
    }

    #[test]
    fn only_requests_entirely_within_a_window_are_proven() {
        let allowed = |invoked: u64, completed: u64| (invoked * 1000, completed * 1000, OperationOutcome::Acknowledged);
        let five = [allowed(0, 10), allowed(10, 20), allowed(20, 30), allowed(30, 40), allowed(40, 50)];
        assert_eq!(judge(&five), CheckResult { read: 5, ..CheckResult::default() });
        // Invoked within the window but answered after it, so the request may have been counted later.
        assert_eq!(judge(&[&five[..], &[allowed(900, 1001)]].concat()).lost, 0);
        // The first request was invoked so early that it may have been counted before the window.
        assert_eq!(judge(&[&five[1..], &[allowed(0, 12), allowed(900, 1005)]].concat()).lost, 0);
        let six = judge(&[&five[..], &[allowed(900, 990)]].concat());
        assert_eq!(six.lost, 1);
        assert_eq!(six.examples, ["k0: 6 allowed within 997ms from 0.000 s on, at most 5 may be"]);
        // These requests may or may not have been allowed.
        let open = [
            (100_000, 110_000, OperationOutcome::Unknown),
            (100_000, 110_000, OperationOutcome::Mismatch),
            (100_000, 110_000, OperationOutcome::Failed),
        ];
        assert_eq!(judge(&[&five[..], &open[..]].concat()).lost, 0);
    }

    #[test]
    fn small_excess_per_window_is_found_over_time() {
        // Six requests per window, answered so slowly that no single window contains all six.
        let requests: Vec<_> = (0..60).map(|n| (n * 166_000, n * 166_000 + 300_000, OperationOutcome::Acknowledged)).collect();
        assert_eq!(judge(&requests[..7]).lost, 0);
        assert!(judge(&requests).lost > 0);
    }

    /// Simulated request to a rate limiter.
    #[derive(Debug, Clone)]
    struct Sent {
        invoked: u64,
        took: u64,
        /// Time at which the limiter counts the request, in percent of the request's duration.
        point: u64,
        /// True if the client gets no answer.
        lost: bool,
    }

    fn sent(most: u64) -> impl Strategy<Value = Sent> {
        (0..4 * WINDOW_US, 1..most, 0..=100_u64, prop::bool::weighted(0.1)).prop_map(|(invoked, took, point, lost)| Sent {
            invoked,
            took,
            point,
            lost,
        })
    }

    /// Simulates a sliding window limiter with a resolution of milliseconds, like the stand-in. Returns invocation time, completion time
    /// and outcome of each request.
    fn simulate(requests: &[Sent], limit: usize) -> Vec<(u64, u64, OperationOutcome)> {
        let counted = |request: &Sent| request.invoked + request.took * request.point / 100;
        let mut order: Vec<&Sent> = requests.iter().collect();
        order.sort_by_key(|request| counted(request));
        let mut window: Vec<u64> = Vec::new();
        let mut answers = Vec::new();
        for request in order {
            let now = counted(request) / 1000;
            window.retain(|then| *then + WINDOW_US / 1000 >= now);
            let allowed = window.len() < limit;
            if allowed {
                window.push(now);
            }
            let outcome = match (request.lost, allowed) {
                (true, _) => OperationOutcome::Unknown,
                (false, true) => OperationOutcome::Acknowledged,
                (false, false) => OperationOutcome::Mismatch,
            };
            answers.push((request.invoked, request.invoked + request.took, outcome));
        }
        answers
    }

    proptest! {
        #[test]
        fn correct_limiter_never_fails(requests in prop::collection::vec(sent(WINDOW_US * 3 / 2), 0..150)) {
            prop_assert_eq!(judge(&simulate(&requests, LIMIT as usize)).lost, 0);
        }

        /// Checks that a burst above the limit, answered entirely within the window, is always found.
        #[test]
        fn limit_exceeded_by_two_always_fails(
            requests in prop::collection::vec(sent(WINDOW_US * 3 / 2), 0..100),
            burst in prop::collection::vec((0..WINDOW_US / 4, 1..WINDOW_US / 4, 0..=100_u64), LIMIT as usize + 2..30),
        ) {
            let later = 10 * WINDOW_US;
            let burst = burst.into_iter().map(|(after, took, point)| Sent { invoked: later + after, took, point, lost: false });
            let requests: Vec<_> = requests.into_iter().chain(burst).collect();
            prop_assert!(judge(&simulate(&requests, LIMIT as usize + 2)).lost >= 2);
            prop_assert_eq!(judge(&simulate(&requests, LIMIT as usize)).lost, 0);
        }
    }
}
