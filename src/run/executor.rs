//! The executor: takes trials in the order of the plan, as many at once as there are slots.

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use tokio::task::{Id, JoinError, JoinSet};

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
    /// How many trials run at once, at least 1.
    pub jobs: usize,
    pub emitter: Emitter,
    pub shared: Shared,
    /// Gives each trial its folder in the record.
    pub record_dir: Box<dyn Fn(&TrialId) -> PathBuf + Send + Sync>,
    pub stop: Stop,
}

impl Executor {
    /// Runs all of them. After a gentle stop no further one is started; those that run end by themselves.
    pub async fn run(&self, plan: &[Arc<TrialPlan>]) -> IndexMap<Verdict, usize> {
        let mut counts = IndexMap::new();
        let mut running: JoinSet<Verdict> = JoinSet::new();
        let mut names: Vec<(Id, Emitter)> = Vec::new();
        let mut waiting = plan.iter();
        loop {
            while running.len() < self.jobs.max(1) && !self.stop.gently.is_cancelled() {
                let Some(next) = waiting.next() else { break };
                let id = TrialId::new();
                let emitter = self.emitter.for_trial(id.clone());
                let context = TrialContext {
                    plan: Arc::clone(next),
                    emitter: emitter.clone(),
                    shared: self.shared.clone(),
                    record_dir: (self.record_dir)(&id),
                    trial: id,
                    cancel: self.stop.gently.child_token(),
                };
                let handle = running.spawn(trial::run(context));
                names.push((handle.id(), emitter));
            }
            tokio::select! {
                ended = running.join_next_with_id() => match ended {
                    None => return counts,
                    Some(Ok((id, verdict))) => {
                        names.retain(|(known, _)| *known != id);
                        *counts.entry(verdict).or_default() += 1;
                    }
                    Some(Err(error)) => {
                        broke(&mut names, &error);
                        *counts.entry(Verdict::Invalid).or_default() += 1;
                    }
                },
                () = self.stop.now.cancelled() => {
                    running.abort_all();
                    while running.join_next().await.is_some() {}
                    *counts.entry(Verdict::Invalid).or_default() += names.len();
                    for (_, emitter) in names {
                        emitter.emit(finished_by(reason("interrupted", "killed by a second interrupt", "interrupted")));
                    }
                    return counts;
                }
            }
        }
    }
}

/// A trial's task panicked: a bug of ours, and still exactly one `TrialFinished`.
fn broke(names: &mut Vec<(Id, Emitter)>, error: &JoinError) {
    if let Some(place) = names.iter().position(|(known, _)| *known == error.id()) {
        let (_, emitter) = names.swap_remove(place);
        emitter.emit(finished_by(reason("bug", &format!("a bug in chaosrun: {error}"), "environment")));
    }
}

fn reason(code: &str, message: &str, blame: &str) -> Reason {
    Reason { code: code.into(), message: message.into(), place: None, blame: Some(blame.into()), help: None }
}

/// The last event of a trial that could not tell its own end.
fn finished_by(reason: Reason) -> Kind {
    Kind::TrialFinished(Box::new(TrialFinished {
        verdict: Verdict::Invalid,
        score: None,
        scorer_version: SCORER_VERSION,
        parts: Vec::new(),
        reason: Some(reason),
        faults: Vec::new(),
        detect_us: None,
        repair_us: None,
        hurt_us: None,
        history: None,
        stable: None,
        wall_us: 0,
        declared_us: 0,
        tokens: 0,
        usd: 0.0,
    }))
}
