//! Client of a workload: performs one operation at a time, each due at a time fixed in advance.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::history::OperationOutcome;
use super::operation::{OperationCall, OperationReply};
use super::sequence::{OperationVerb, PlannedOperation, Sequence};
use chaosrun_scenario::model::Model;

/// Finished operation that a client sends to the collector. Times are relative to the start of the workload.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) planned: PlannedOperation,
    pub(super) outcome: OperationOutcome,
    /// Value that the operation read, as in [`OperationReply::read`]. For a compare-and-put, the expected value.
    pub(super) read: Option<Value>,
    pub(super) intended: Duration,
    pub(super) invoked: Duration,
    pub(super) completed: Duration,
    pub(super) problem: Option<String>,
}

pub(super) struct WorkloadClient {
    pub(super) index: u32,
    pub(super) sequence: Arc<Sequence>,
    pub(super) model: Model,
    pub(super) start: Instant,
    pub(super) timeout: Duration,
    pub(super) caller: Caller,
    /// Last known value of each key. A compare-and-put expects this value.
    pub(super) known: HashMap<u32, Value>,
}

impl WorkloadClient {
    /// Performs the planned operations until `stop` is cancelled. The current operation then finishes or reaches its timeout. `abort` ends
    /// it at once.
    pub(super) async fn run(mut self, out: mpsc::UnboundedSender<Done>, stop: CancellationToken, abort: CancellationToken) -> Self {
        let mut number = u64::from(self.index);
        let mut free = self.start;
        loop {
            let due = self.start + self.sequence.due(number);
            tokio::select! {
                biased;
                () = stop.cancelled() => return self,
                () = sleep_until(due) => {}
            }
            let now = Instant::now();
            let planned = self.sequence.operation(number);
            number += self.sequence.clients();
            // If a busy client starts an operation late, latency counts from the due time, so that slow answers stay visible. If an idle
            // client starts it, latency counts from the actual start, since only the timer caused the delay.
            let intended = if free <= due { now } else { due };
            if now.duration_since(intended) > self.timeout {
                let problem = Some("its client was stuck".into());
                let _ =
                    out.send(self.done(planned, OperationReply { outcome: OperationOutcome::Missed, read: None, problem }, intended, now));
                continue;
            }
            let answer = tokio::select! {
                biased;
                answer = self.perform(&planned) => answer,
                () = abort.cancelled() => OperationReply::unanswered(planned.verb, "the trial was interrupted"),
            };
            free = Instant::now();
            let _ = out.send(self.done(planned, answer, intended, now));
        }
    }

    /// Performs a planned operation, and updates the last known value of the key.
    pub(super) async fn perform(&mut self, planned: &PlannedOperation) -> OperationReply {
        let value = match (planned.verb.stores(), self.model) {
            (false, _) => Value::Null,
            (true, Model::Counter) => planned.value.into(),
            (true, _) => self.sequence.value_text(planned.value).into(),
        };
        let cas = planned.verb == OperationVerb::Cas;
        let expect = if cas { self.known.get(&planned.key).cloned().unwrap_or_default() } else { Value::Null };
        let key = self.sequence.key_text(planned.key);
        let call = OperationCall { client: self.index, verb: planned.verb, key: &key, value, expect };
        let mut answer = self.caller.call(&call).await;
        let OperationCall { value, expect, .. } = call;
        match (planned.verb, answer.outcome, &answer.read) {
            (OperationVerb::Write | OperationVerb::Cas, OperationOutcome::Acknowledged, _) => {
                self.known.insert(planned.key, value);
            }
            (OperationVerb::Read, OperationOutcome::Acknowledged, Some(read)) => {
                self.known.insert(planned.key, read.clone());
            }
            // The current value is unknown until the next read. In a workload without reads, a wrong expectation would otherwise mismatch
            // forever.
            (OperationVerb::Cas, OperationOutcome::Mismatch, read) => {
                self.known.insert(planned.key, read.clone().unwrap_or_default());
            }
            _ => {}
        }
        if cas {
            answer.read = Some(expect);
        }
        answer
    }

    pub(super) fn done(&self, planned: PlannedOperation, answer: OperationReply, intended: Instant, invoked: Instant) -> Done {
        let since = |moment: Instant| moment.saturating_duration_since(self.start);
        Done {
            planned,
            outcome: answer.outcome,
            read: answer.read,
            intended: since(intended),
            invoked: since(invoked),
            completed: self.start.elapsed(),
            problem: answer.problem,
        }
    }
}
