//! The executor: takes trials in the order of the plan, as many at once as there are slots.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;
use tokio::task::{Id, JoinError, JoinSet};

use super::queue::{Ended, Policy, Queue};
use super::stage::Shared;
use super::stop::Stop;
use super::trial::{self, TrialContext};
use crate::emit::Emitter;
use crate::event::{Kind, Reason, TrialFinished, Verdict};
use crate::ids::TrialId;
use crate::plan::TrialPlan;
use crate::score::SCORER_VERSION;

/// What a run needs to execute its trials.
pub struct Executor {
    pub policy: Policy,
    /// When the run began: what its time is counted from.
    pub began: Instant,
    pub emitter: Emitter,
    pub shared: Shared,
    /// Gives each trial its folder in the record.
    pub record_dir: Box<dyn Fn(&TrialId) -> PathBuf + Send + Sync>,
    pub stop: Stop,
}

impl Executor {
    /// Runs all of them; gives the verdicts by trial number, of the last attempt.
    ///
    /// After a gentle stop no further one is started; those that run end by themselves.
    pub async fn run(&self, plan: &[Arc<TrialPlan>]) -> IndexMap<usize, Verdict> {
        let mut queue = Queue::new(plan, self.policy.clone());
        let mut verdicts = IndexMap::new();
        let mut running: JoinSet<Ended> = JoinSet::new();
        let mut under_way: Vec<UnderWay> = Vec::new();
        loop {
            while !self.stop.gently.is_cancelled() {
                let id = TrialId::new();
                let Some(next) = queue.start(&id, self.began.elapsed()) else { break };
                let emitter = self.emitter.for_trial(id.clone());
                let number = next.number;
                let context = TrialContext {
                    plan: next,
                    emitter: emitter.clone(),
                    shared: self.shared.clone(),
                    record_dir: (self.record_dir)(&id),
                    trial: id.clone(),
                    cancel: self.stop.gently.child_token(),
                };
                let handle = running.spawn(trial::run(context));
                under_way.push(UnderWay { task: handle.id(), id, number, emitter });
            }
            for answer in queue.decided() {
                self.emitter.emit(Kind::ComparisonAnswered(Box::new(answer)));
            }
            if let Some((why, missing)) = queue.news() {
                self.emitter.emit(Kind::RunStopped { why, missing });
            }
            tokio::select! {
                ended = running.join_next_with_id() => match ended {
                    None => {
                        for answer in queue.undecided() {
                            self.emitter.emit(Kind::ComparisonAnswered(Box::new(answer)));
                        }
                        return verdicts;
                    }
                    Some(ended) => {
                        let task = ended.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
                        let Some(place) = under_way.iter().position(|trial| trial.task == task) else { continue };
                        let trial = under_way.swap_remove(place);
                        let ended = ended.map_or_else(|error| trial.broke(&error), |(_, ended)| ended);
                        queue.ended(&trial.id, &ended);
                        verdicts.insert(trial.number, ended.verdict);
                    }
                },
                () = self.stop.now.cancelled() => {
                    running.abort_all();
                    while let Some(ended) = running.join_next_with_id().await {
                        // It came to its own end just before.
                        if let Ok((task, ended)) = ended
                            && let Some(place) = under_way.iter().position(|trial| trial.task == task)
                        {
                            verdicts.insert(under_way.swap_remove(place).number, ended.verdict);
                        }
                    }
                    for trial in under_way {
                        trial.emitter.emit(Kind::TrialFinished(finished_by(reason("interrupted", "killed by a second interrupt", "interrupted"))));
                        verdicts.insert(trial.number, Verdict::Invalid);
                    }
                    return verdicts;
                }
            }
        }
    }
}

/// A trial whose task runs.
struct UnderWay {
    task: Id,
    id: TrialId,
    number: usize,
    emitter: Emitter,
}

impl UnderWay {
    /// Its task panicked: a bug of ours, and still exactly one `TrialFinished`.
    fn broke(&self, error: &JoinError) -> Ended {
        let finished = finished_by(reason("bug", &format!("a bug in chaosrun: {error}"), "environment"));
        let ended = Ended::of(&finished);
        self.emitter.emit(Kind::TrialFinished(finished));
        ended
    }
}

fn reason(code: &str, message: &str, blame: &str) -> Reason {
    Reason { code: code.into(), message: message.into(), place: None, blame: Some(blame.into()), help: None }
}

/// The last event of a trial that could not tell its own end.
fn finished_by(reason: Reason) -> Box<TrialFinished> {
    Box::new(TrialFinished::invalid(reason, SCORER_VERSION))
}
