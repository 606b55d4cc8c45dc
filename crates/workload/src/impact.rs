//! Impact of a fault on users: client error-seconds, the time in which clients were not served. Pure.

use std::time::Duration;

use super::history::RecordedOperation;

/// Returns the client error-seconds of a workload.
///
/// Operations are due at fixed, even times (`rate` per second), independent of the system. Each operation therefore represents `1 / rate`
/// seconds of its users' time. An operation is *served* if it was acknowledged within `timeout` of its due time. A compare-and-put that
/// found another value, or a request refused by a rate limiter, counts as served as well. An operation is not served if it failed, got no
/// answer in time, or was not sent because its client was blocked. The impact is then:
///
/// ```text
/// impact = (operations not served) / rate  =  integral over time of the share of operations not served
/// ```
///
/// For example, a total outage of 2 s costs 2 s. An outage of a quarter of the operations for 2 s costs 0.5 s.
#[must_use]
pub fn impact(operations: &[RecordedOperation], rate: f64, timeout: Duration) -> Duration {
    let timeout_us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
    from_count(operations.iter().filter(|operation| !served(operation, timeout_us)).count(), rate)
}

/// Returns true if the user got a valid answer to the operation within the timeout.
#[must_use]
pub fn served(operation: &RecordedOperation, timeout_us: u64) -> bool {
    operation.outcome.served() && operation.latency_us() <= timeout_us
}

/// Returns the [`impact`] in client error-seconds of `not_served` operations at `rate` operations per second.
#[must_use]
pub(crate) fn from_count(not_served: usize, rate: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^53")]
    Duration::try_from_secs_f64(not_served as f64 / rate).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{OperationOutcome, OperationValue};
    use crate::sequence::OperationVerb;

    fn at(intended_ms: u64, completed_ms: u64, outcome: OperationOutcome) -> RecordedOperation {
        RecordedOperation {
            client: 0,
            verb: OperationVerb::Write,
            outcome,
            key: 0,
            value: intended_ms,
            seen: OperationValue::Nothing,
            intended_us: intended_ms * 1000,
            invoked_us: intended_ms * 1000,
            completed_us: completed_ms * 1000,
        }
    }

    #[test]
    fn unserved_operation_costs_its_share_of_time() {
        // Ten operations per second for one second, so each represents 100 ms.
        let timeout = Duration::from_millis(500);
        let mut operations: Vec<_> = (0..10).map(|n| at(n * 100, n * 100 + 5, OperationOutcome::Acknowledged)).collect();
        assert_eq!(impact(&operations, 10.0, timeout), Duration::ZERO);
        operations[2] = at(200, 205, OperationOutcome::Failed);
        operations[3] = at(300, 800, OperationOutcome::Unknown);
        operations[4] = at(400, 800, OperationOutcome::Missed);
        assert_eq!(impact(&operations, 10.0, timeout), Duration::from_millis(300));
        // One answer is barely in time, and the other is late by one microsecond.
        operations[5] = at(500, 1000, OperationOutcome::Acknowledged);
        operations[6] = at(600, 1101, OperationOutcome::Acknowledged);
        assert_eq!(impact(&operations, 10.0, timeout), Duration::from_millis(400));
        // A compare-and-put that found another value was answered.
        operations[7] = at(700, 705, OperationOutcome::Mismatch);
        assert_eq!(impact(&operations, 10.0, timeout), Duration::from_millis(400));
        assert_eq!(impact(&[], 10.0, timeout), Duration::ZERO);
    }
}
