//! `hurt`: for how long users were not served. Pure.

use std::time::Duration;

use super::history::Operation;

/// The client error-seconds of a run.
///
/// Operations are due at fixed, even moments (`rate` a second), whatever the system does, so each stands for `1 / rate` seconds
/// of its users' time. One is *served* when it was acknowledged (or rightly refused, as a compare-and-put that found another value)
/// within `timeout` of the moment it was due. An operation that failed, got no answer in time, or could not even be sent because its client was
/// stuck, is not served. Then
///
/// ```text
/// hurt = (operations not served) / rate  =  integral over time of the share of operations not served
/// ```
///
/// A total outage of 2 s costs 2 s; one that hits a quarter of the operations for 2 s costs 0.5 s.
#[must_use]
pub fn hurt(operations: &[Operation], rate: f64, timeout: Duration) -> Duration {
    let timeout_us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
    from_count(operations.iter().filter(|operation| !served(operation, timeout_us)).count(), rate)
}

/// Whether the user got an answer in time.
#[must_use]
pub fn served(operation: &Operation, timeout_us: u64) -> bool {
    operation.outcome.served() && operation.latency_us() <= timeout_us
}

/// The formula of [`hurt`] for a count of operations that were not served.
#[must_use]
pub fn from_count(not_served: usize, rate: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^53")]
    Duration::try_from_secs_f64(not_served as f64 / rate).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::history::{Outcome, Seen};
    use crate::workload::sequence::Verb;

    fn at(intended_ms: u64, completed_ms: u64, outcome: Outcome) -> Operation {
        Operation {
            client: 0,
            verb: Verb::Write,
            outcome,
            key: 0,
            value: intended_ms,
            seen: Seen::Nothing,
            intended_us: intended_ms * 1000,
            invoked_us: intended_ms * 1000,
            completed_us: completed_ms * 1000,
        }
    }

    #[test]
    fn each_operation_that_is_not_served_costs_its_share_of_time() {
        // Ten operations a second for one second: each stands for 100 ms.
        let timeout = Duration::from_millis(500);
        let mut operations: Vec<_> = (0..10).map(|n| at(n * 100, n * 100 + 5, Outcome::Acknowledged)).collect();
        assert_eq!(hurt(&operations, 10.0, timeout), Duration::ZERO);
        operations[2] = at(200, 205, Outcome::Failed);
        operations[3] = at(300, 800, Outcome::Unknown);
        operations[4] = at(400, 800, Outcome::Missed);
        assert_eq!(hurt(&operations, 10.0, timeout), Duration::from_millis(300));
        // In time by a hair, late by one.
        operations[5] = at(500, 1000, Outcome::Acknowledged);
        operations[6] = at(600, 1101, Outcome::Acknowledged);
        assert_eq!(hurt(&operations, 10.0, timeout), Duration::from_millis(400));
        // A compare-and-put that found another value was answered.
        operations[7] = at(700, 705, Outcome::Mismatch);
        assert_eq!(hurt(&operations, 10.0, timeout), Duration::from_millis(400));
        assert_eq!(hurt(&[], 10.0, timeout), Duration::ZERO);
    }
}
