//! Executes planned trials: supervisor, record, reporters, runtime. What `run` and `check` share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indexmap::IndexMap;

use super::exit::{Exit, Expected};
use super::output::OutputArgs;
use super::store::{StoreArgs, expected};
use crate::cluster::docker::image;
use crate::cluster::local::supervisor::Supervisor;
use crate::cluster::local::{WorkRoot, seat};
use crate::emit::Emitter;
use crate::event::{Kind, Verdict};
use crate::ids::{RunId, TrialId};
use crate::observe::HttpClient;
use crate::plan::TrialPlan;
use crate::plan::digest::SEMANTICS;
use crate::run::containers::Containers;
use crate::run::dispatcher::{Dispatching, Outcome};
use crate::run::executor::Executor;
use crate::run::stage::Shared;
use crate::run::stop::Stop;
use crate::scenario::embedded;
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
        let program = std::env::current_exe().context("this program's own file cannot be found")?;
        let hidden = embedded::SAMPLES.iter().chain(image::embedded::FILES).map(|(_, text)| *text).collect();
        let work = WorkRoot::new(&program, hidden, &supervisor).context("no folder for the nodes could be made")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let tools_dir = if seat::find("docker", &path).is_none() {
            let docker = work.make_tool("docker").context("the agent's tools could not be made")?;
            docker.parent().map(Path::to_owned)
        } else {
            None
        };
        let containers = containers(run, trials, &work).await?.map(Arc::new);
        let trials: Vec<_> = match &containers {
            Some(containers) => trials.iter().map(|trial| containers.identified(trial)).collect(),
            None => trials.to_vec(),
        };
        let shared = Shared {
            supervisor: supervisor.clone(),
            work: Arc::new(work),
            http: HttpClient::new(),
            tools_dir,
            containers: containers.clone(),
        };
        let warnings = emitter.clone();
        let verdicts = Executor { jobs, emitter, shared, record_dir, stop }.run(&trials).await;
        if let Some(containers) = containers
            && let Err(error) = containers.clear().await
        {
            warnings.warn(format!("{error}; `chaosrun doctor --clean` tries again"));
        }
        supervisor.close().await;
        anyhow::Ok(verdicts)
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(verdicts)
}

/// The engine and all images, when a trial needs them.
async fn containers(run: RunId, trials: &[Arc<TrialPlan>], work: &WorkRoot) -> anyhow::Result<Option<Containers>> {
    let in_containers = trials.iter().filter(|trial| trial.scenario.backend == Backend::Docker);
    let clusters: Vec<_> = in_containers.map(|trial| &*trial.scenario.cluster).collect();
    if clusters.is_empty() {
        return Ok(None);
    }
    // The copy that goes into images: it runs nodes and nothing else.
    let program = work.make_tool("server").context("the program for images could not be made")?;
    let prepared = Containers::prepare(run, &clusters, &program, |progress| eprintln!("{progress}")).await;
    prepared.map(Some).map_err(|error| {
        let expected = Expected::new(Exit::TrialInvalid, error.to_string());
        match error.help() {
            Some(help) => expected.help(help).into(),
            None => expected.into(),
        }
    })
}
