//! Operations in the form that callers get, and results of operations.

use serde_json::Value;

use super::history::OperationOutcome;
use super::sequence::OperationVerb;

/// Operation that a caller sends to the system, directly or through a driver program.
#[derive(Debug)]
pub(super) struct OperationCall<'a> {
    pub(super) client: u32,
    pub(super) verb: OperationVerb,
    pub(super) key: &'a str,
    /// Text to store, or the delta of a counter as a number. Null for operations that store no value.
    pub(super) value: Value,
    /// Value that a compare-and-put expects. Null means that the key has no value.
    pub(super) expect: Value,
}

/// Result of an attempted operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OperationReply {
    pub(super) outcome: OperationOutcome,
    /// Value that the operation read. Null means that no value exists. `None` for operations that read no value.
    pub(super) read: Option<Value>,
    /// Reason in words why the operation was not acknowledged; `None` for an acknowledged operation.
    pub(super) problem: Option<String>,
}

impl OperationReply {
    pub(super) fn acknowledged(read: Option<Value>) -> Self {
        Self { outcome: OperationOutcome::Acknowledged, read, problem: None }
    }

    pub(super) fn failed(problem: impl Into<String>) -> Self {
        Self { outcome: OperationOutcome::Failed, read: None, problem: Some(problem.into()) }
    }

    /// Creates the result of an operation without an answer: `Failed` for a read, which has no effect, and `Unknown` for any other
    /// operation.
    pub(super) fn unanswered(verb: OperationVerb, problem: impl Into<String>) -> Self {
        let outcome = if verb.changes() { OperationOutcome::Unknown } else { OperationOutcome::Failed };
        Self { outcome, read: None, problem: Some(problem.into()) }
    }
}
