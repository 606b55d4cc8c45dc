//! Operations as they are passed to a caller, and their results.

use serde_json::Value;

use super::history::OperationOutcome;
use super::sequence::OperationVerb;

/// Operation as it is passed to a driver.
#[derive(Debug)]
pub(super) struct OperationCall<'a> {
    pub(super) client: u32,
    pub(super) verb: OperationVerb,
    pub(super) key: &'a str,
    /// Stored text, or the delta of a counter as a number. Null for verbs that store no value.
    pub(super) value: Value,
    /// Expected value of a compare-and-put. Null means no value.
    pub(super) expect: Value,
}

/// Result of an operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OperationReply {
    pub(super) outcome: OperationOutcome,
    /// Value that was read. Null means that there was none. `None` for verbs that read no value.
    pub(super) read: Option<Value>,
    /// Reason why the operation was not acknowledged, in words.
    pub(super) problem: Option<String>,
}

impl OperationReply {
    pub(super) fn acknowledged(read: Option<Value>) -> Self {
        Self { outcome: OperationOutcome::Acknowledged, read, problem: None }
    }

    pub(super) fn failed(problem: impl Into<String>) -> Self {
        Self { outcome: OperationOutcome::Failed, read: None, problem: Some(problem.into()) }
    }

    /// Returns the result of an operation without an answer: `Failed` for a read, which has no effect, and `Unknown` for any other verb.
    pub(super) fn unanswered(verb: OperationVerb, problem: impl Into<String>) -> Self {
        let outcome = if verb.changes() { OperationOutcome::Unknown } else { OperationOutcome::Failed };
        Self { outcome, read: None, problem: Some(problem.into()) }
    }
}
