//! Executor: runs trials in the order of the plan. The number of slots limits the number of parallel trials.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;
use tokio::task::{Id, JoinError, JoinSet};

use super::queue::{EndedTrial, Policy, TrialQueue};
use super::stage::RunShared;
use super::stop::StopTokens;
use super::trial::{self, TrialContext};
use chaosrun_base::ids::TrialId;
use chaosrun_base::task::Panics;
use chaosrun_event::emit::Emitter;
use chaosrun_event::{EventKind, Reason, TrialFinished, Verdict};
use chaosrun_plan::TrialPlan;
use chaosrun_score::SCORER_VERSION;

/// Executor of a run, with all parts that its trials need.
pub struct Executor {
    pub policy: Policy,
    /// Start time of the run, from which the duration of the run is measured.
    pub began: Instant,
    pub emitter: Emitter,
    pub shared: RunShared,
    /// Function that returns the folder of a trial in the record.
    pub record_dir: Box<dyn Fn(&TrialId) -> PathBuf + Send + Sync>,
    pub stop: StopTokens,
}

impl Executor {
    /// Runs all trials. Returns the verdict of the last attempt of each trial, by trial number.
    ///
    /// After a gentle stop no further trial starts, and the running trials are cancelled and torn down. A forced stop aborts the running
    /// trials.
    pub async fn run(&self, plan: &[Arc<TrialPlan>]) -> IndexMap<usize, Verdict> {
        let mut queue = TrialQueue::new(plan, self.policy.clone());
        let mut verdicts = IndexMap::new();
        let mut running: JoinSet<EndedTrial> = JoinSet::new();
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
                    panics: Panics::within_current(),
                };
                let handle = running.spawn(trial::run(context));
                under_way.push(UnderWay { task: handle.id(), id, number, emitter });
            }
            for answer in queue.decided() {
                self.emitter.emit(EventKind::ComparisonAnswered(Box::new(answer)));
            }
            if let Some((why, missing)) = queue.news() {
                self.emitter.emit(EventKind::RunStopped { why, missing });
            }
            tokio::select! {
                ended = running.join_next_with_id() => match ended {
                    None => {
                        for answer in queue.undecided() {
                            self.emitter.emit(EventKind::ComparisonAnswered(Box::new(answer)));
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
                        // This trial ended by itself immediately before the stop.
                        if let Ok((task, ended)) = ended
                            && let Some(place) = under_way.iter().position(|trial| trial.task == task)
                        {
                            verdicts.insert(under_way.swap_remove(place).number, ended.verdict);
                        }
                    }
                    for trial in under_way {
                        trial.emitter.emit(EventKind::TrialFinished(finished_by(Reason::interrupted("killed by a second interrupt"))));
                        verdicts.insert(trial.number, Verdict::Invalid);
                    }
                    return verdicts;
                }
            }
        }
    }
}

/// Running trial, with its task.
struct UnderWay {
    task: Id,
    id: TrialId,
    number: usize,
    emitter: Emitter,
}

impl UnderWay {
    /// Handles a panic of the task of a trial, which is a bug in chaosrun. Emits the `TrialFinished` event that the task could not emit.
    fn broke(&self, error: &JoinError) -> EndedTrial {
        let finished = finished_by(Reason::bug(error));
        let ended = EndedTrial::of(&finished);
        self.emitter.emit(EventKind::TrialFinished(finished));
        ended
    }
}

/// Returns the content of the `TrialFinished` event for a trial that could not emit this event itself.
fn finished_by(reason: Reason) -> Box<TrialFinished> {
    Box::new(TrialFinished::invalid(reason, SCORER_VERSION))
}
