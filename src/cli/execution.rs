//! Executes planned trials: supervisor, record, reporters, runtime. What `run` and `check` share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indexmap::IndexMap;

use super::ground;
use super::output::OutputArgs;
use super::store::{StoreArgs, expected};
use crate::cluster::local::supervisor::Supervisor;
use crate::emit::Emitter;
use crate::event::{Kind, Verdict};
use crate::ids::{RunId, TrialId};
use crate::plan::TrialPlan;
use crate::plan::digest::SEMANTICS;
use crate::run::backend;
use crate::run::dispatcher::{Dispatching, Outcome};
use crate::run::executor::Executor;
use crate::run::stop::Stop;
use crate::scenario::model::Backend;
use crate::store::Recorder;

/// What came of it: by trial number, and in all.
pub struct Executed {
    pub verdicts: IndexMap<usize, Verdict>,
    pub outcome: Outcome,
}

/// Starts the supervisor first, then everything else; returns when nothing of it is left.
pub fn execute(trials: &[Arc<TrialPlan>], jobs: usize, output: &OutputArgs, store: &StoreArgs) -> anyhow::Result<Executed> {
    // Before any thread exists: the kernel ties the supervisor to the thread that started it.
    let supervisor = Supervisor::spawn().context("the supervisor could not be started")?;
    let database = store.create()?;
    let directory = database.directory().clone();
    let run = RunId::new();
    let began = Instant::now();
    let stop = Stop::default();
    let (emitter, messages) = Emitter::new(began);
    let failed = {
        let (stop, emitter) = (stop.clone(), emitter.clone());
        move |why: &str| {
            emitter.warn(format!("the record fails, so the run is stopped: {why}"));
            stop.gently.cancel();
        }
    };
    let recorder = Recorder::start(database, run.clone(), failed).map_err(expected)?;
    let dispatching = Dispatching::start(messages, Some(recorder), output.reporters(true)?)?;

    emitter.emit(Kind::RunStarted {
        run: run.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        semantics: SEMANTICS,
        backend: trials.first().map_or("local", |trial| trial.scenario.backend.as_str()).into(),
        trials: trials.len(),
        jobs,
        arguments: std::env::args().skip(1).collect(),
    });
    let artifacts = {
        let run = run.clone();
        move |trial: &TrialId| directory.artifacts(&run, trial)
    };
    let executed = in_runtime(supervisor, run, trials, jobs, emitter.clone(), stop.clone(), Box::new(artifacts));
    let mut counts: IndexMap<Verdict, usize> = IndexMap::new();
    for verdict in executed.iter().flat_map(IndexMap::values) {
        *counts.entry(*verdict).or_default() += 1;
    }
    emitter.emit(Kind::RunFinished {
        counts,
        wall_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        interrupted: stop.gently.is_cancelled(),
    });
    drop(emitter);
    let outcome = dispatching.finish();
    if let Some(failed) = &outcome.store {
        eprintln!("error: {failed}");
    }
    for problem in &outcome.reports {
        eprintln!("error: {problem}");
    }
    Ok(Executed { verdicts: executed?, outcome })
}

/// Everything that needs a runtime. The work folder and the supervisor end with it.
fn in_runtime(
    supervisor: Supervisor,
    run: RunId,
    trials: &[Arc<TrialPlan>],
    jobs: usize,
    emitter: Emitter,
    stop: Stop,
    record_dir: Box<dyn Fn(&TrialId) -> PathBuf + Send + Sync>,
) -> anyhow::Result<IndexMap<usize, Verdict>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let verdicts = runtime.block_on(async {
        let supervisor = supervisor.attach().context("the supervisor does not answer")?;
        stop.on_signals(|count| match count {
            1 => eprintln!("\ninterrupted: healing and tearing down; once more kills everything at once"),
            2 => eprintln!("killing everything"),
            _ => (),
        })?;
        let in_containers = trials.iter().filter(|trial| trial.scenario.backend == Backend::Docker);
        let contained: Vec<_> = in_containers.map(|trial| &*trial.scenario.cluster).collect();
        let shared = ground::shared(supervisor, run, &contained, |progress| eprintln!("{progress}")).await?;
        let trials: Vec<_> = match &shared.containers {
            Some(containers) => trials.iter().map(|trial| containers.identified(trial)).collect(),
            None => trials.to_vec(),
        };
        let warnings = emitter.clone();
        let verdicts = Executor { jobs, emitter, shared: shared.clone(), record_dir, stop }.run(&trials).await;
        if let Err(error) = backend::close(&shared).await {
            warnings.warn(format!("{error}; `chaosrun doctor --clean` tries again"));
        }
        anyhow::Ok(verdicts)
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(verdicts)
}
