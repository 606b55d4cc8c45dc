//! One client: an operation at a time, each due at a moment fixed from the start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::caller::{Answer, Call, Caller};
use super::history::Outcome;
use super::sequence::{Planned, Sequence, Verb};
use crate::scenario::model::Model;

/// A finished operation on its way to the collector. Times are since the workload's start.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) planned: Planned,
    pub(super) outcome: Outcome,
    /// See [`Answer::read`]; of a compare-and-put what it expected.
    pub(super) read: Option<Value>,
    pub(super) intended: Duration,
    pub(super) invoked: Duration,
    pub(super) completed: Duration,
    pub(super) problem: Option<String>,
}

pub(super) struct Client {
    pub(super) index: u32,
    pub(super) sequence: Arc<Sequence>,
    pub(super) model: Model,
    pub(super) start: Instant,
    pub(super) timeout: Duration,
    pub(super) caller: Caller,
    /// Key -> the value this client last knew it to have: what a compare-and-put expects.
    pub(super) known: HashMap<u32, Value>,
}

impl Client {
    /// Runs until `stop`; the operation in flight is then finished, or given up at its timeout. `abort` gives it up at once.
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
            // What a client that was busy at the time had to put off counts from when it was due: slow answers must not hide themselves.
            // A client that was free is only as late as its timer.
            let intended = if free <= due { now } else { due };
            if now.duration_since(intended) > self.timeout {
                let problem = Some("its client was stuck".into());
                let _ = out.send(self.done(planned, Answer { outcome: Outcome::Missed, read: None, problem }, intended, now));
                continue;
            }
            let answer = tokio::select! {
                biased;
                answer = self.perform(&planned) => answer,
                () = abort.cancelled() => Answer::unanswered(planned.verb, "the trial was interrupted"),
            };
            free = Instant::now();
            let _ = out.send(self.done(planned, answer, intended, now));
        }
    }

    /// Calls, and remembers what it learned about the key.
    pub(super) async fn perform(&mut self, planned: &Planned) -> Answer {
        let value = match (planned.verb.stores(), self.model) {
            (false, _) => Value::Null,
            (true, Model::Counter) => planned.value.into(),
            (true, _) => self.sequence.value_text(planned.value).into(),
        };
        let cas = planned.verb == Verb::Cas;
        let expect = if cas { self.known.get(&planned.key).cloned().unwrap_or_default() } else { Value::Null };
        let key = self.sequence.key_text(planned.key);
        let call = Call { client: self.index, verb: planned.verb, key: &key, value, expect };
        let mut answer = self.caller.call(&call).await;
        let Call { value, expect, .. } = call;
        match (planned.verb, answer.outcome, &answer.read) {
            (Verb::Write | Verb::Cas, Outcome::Acknowledged, _) => {
                self.known.insert(planned.key, value);
            }
            (Verb::Read, Outcome::Acknowledged, Some(read)) => {
                self.known.insert(planned.key, read.clone());
            }
            // What is there now, the next read tells; expecting the same again would mismatch for ever where nobody reads.
            (Verb::Cas, Outcome::Mismatch, read) => {
                self.known.insert(planned.key, read.clone().unwrap_or_default());
            }
            _ => {}
        }
        if cas {
            answer.read = Some(expect);
        }
        answer
    }

    pub(super) fn done(&self, planned: Planned, answer: Answer, intended: Instant, invoked: Instant) -> Done {
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
