//! Reads after the heal: clients read every written key until the answer is definite or the deadline passes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use super::check;
use super::client::{Done, WorkloadClient};
use super::collect::{last_set, record};
use super::history::{History, OperationOutcome, OperationValue};
use super::sequence::{OperationVerb, PlannedOperation, Sequence};
use chaosrun_scenario::model::Model;

/// Initial pause between two attempts to read the same key. The pause grows, so that a recovering system is not overloaded.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Number of repeated reads of a key before the writes to the key count as lost. A store that is still catching up has lost no data.
const SECOND_LOOKS: u32 = 3;

/// Performs the reads after the heal, distributed over the clients, and adds the results to the history.
pub(super) async fn read_all(clients: &mut [WorkloadClient], history: &mut History, sequence: &Sequence, deadline: Instant) {
    match history.model {
        // The answers during the run already show which requests were allowed.
        Model::Limit | Model::None => {}
        Model::Register | Model::Counter => {
            let stored = history.operations.iter().filter(|operation| operation.verb.stores());
            let keys: BTreeSet<u32> = stored
                .filter(|operation| matches!(operation.outcome, OperationOutcome::Acknowledged | OperationOutcome::Unknown))
                .map(|operation| operation.key)
                .collect();
            keys_once(clients, history, sequence, keys.into_iter().collect(), deadline).await;
            let mut pause = PAUSE;
            for _ in 0..SECOND_LOOKS {
                let suspects =
                    if history.model == Model::Register { check::register::suspects(history) } else { check::counter::suspects(history) };
                if suspects.is_empty() || Instant::now() + pause >= deadline {
                    break;
                }
                sleep(pause).await;
                pause = (pause * 4).min(LONGEST_PAUSE);
                keys_once(clients, history, sequence, suspects, deadline).await;
            }
        }
        Model::Set => read_set(clients, history, sequence, deadline).await,
        Model::Queue => drain(clients, history, sequence, deadline).await,
    }
}

/// Reads each key until one answer is definite or the deadline passes.
async fn keys_once(clients: &mut [WorkloadClient], history: &mut History, sequence: &Sequence, keys: Vec<u32>, deadline: Instant) {
    let queue = Arc::new(Mutex::new(VecDeque::from(keys)));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let readings = join_all(clients.iter_mut().map(|client| async {
        let mut answers = Vec::new();
        while let Some(key) = next() {
            answers.extend(until_definite(client, OperationVerb::Read, key, deadline).await);
        }
        answers
    }))
    .await;
    let mut answers: Vec<Done> = readings.into_iter().flatten().collect();
    answers.sort_by_key(|done| done.completed);
    for done in answers {
        let operation = record(history, sequence, done);
        history.last.push(operation);
    }
}

async fn read_set(clients: &mut [WorkloadClient], history: &mut History, sequence: &Sequence, deadline: Instant) {
    let Some(client) = clients.first_mut() else { return };
    let mut pause = PAUSE;
    for _ in 0..=SECOND_LOOKS {
        let Some(done) = until_definite(client, OperationVerb::Read, 0, deadline).await else { return };
        if let Some(set) = last_set(sequence, &done) {
            history.set.last = Some(set);
        }
        let mut operation = record(history, sequence, done);
        // The result is stored in full as the last read, not as a read during the run.
        operation.seen = history
            .set
            .last
            .as_ref()
            .map_or(operation.seen, |set| OperationValue::Elements(u32::try_from(set.elements.len()).unwrap_or(u32::MAX)));
        history.last.push(operation);
        if check::check(history, sequence).lost == 0 || Instant::now() + pause >= deadline {
            return;
        }
        sleep(pause).await;
        pause = (pause * 4).min(LONGEST_PAUSE);
    }
}

/// Dequeues elements until the queue reports that it is empty or the deadline passes.
async fn drain(clients: &mut [WorkloadClient], history: &mut History, sequence: &Sequence, deadline: Instant) {
    let Some(client) = clients.first_mut() else { return };
    let mut pause = PAUSE;
    while Instant::now() < deadline && !client.caller.is_gone() {
        let done = attempt(client, OperationVerb::Dequeue, 0).await;
        let definite = done.outcome == OperationOutcome::Acknowledged;
        let operation = record(history, sequence, done);
        history.last.push(operation);
        if definite && operation.seen == OperationValue::Absent {
            return;
        }
        if definite {
            pause = PAUSE;
        } else {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Repeats an operation until its answer is definite. Returns `None` if the deadline passed or the caller is permanently gone.
async fn until_definite(client: &mut WorkloadClient, verb: OperationVerb, key: u32, deadline: Instant) -> Option<Done> {
    let mut pause = PAUSE;
    loop {
        let done = timeout_at(deadline, attempt(client, verb, key)).await.ok()?;
        if done.outcome == OperationOutcome::Acknowledged {
            return Some(done);
        }
        if client.caller.is_gone() || Instant::now() + pause >= deadline {
            return None;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(client: &mut WorkloadClient, verb: OperationVerb, key: u32) -> Done {
    let now = Instant::now();
    let planned = PlannedOperation { number: 0, client: client.index, verb, key, value: 0 };
    let answer = client.perform(&planned).await;
    client.done(planned, answer, now, now)
}
