//! `chaosrun run`: load, plan, execute, report. The main job.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indexmap::IndexMap;

use super::exit::{Exit, Expected};
use super::output::OutputArgs;
use super::store::{StoreArgs, expected};
use crate::agent::tools;
use crate::cluster::local::WorkRoot;
use crate::cluster::local::supervisor::Supervisor;
use crate::diagnostic;
use crate::emit::Emitter;
use crate::event::{Kind, Verdict};
use crate::ids::{RunId, TrialId};
use crate::observe::HttpClient;
use crate::plan::{TrialPlan, digest::SEMANTICS};
use crate::run::dispatcher::Dispatching;
use crate::run::executor::Executor;
use crate::run::stage::Shared;
use crate::run::stop::Stop;
use crate::scenario::{self, Overrides, embedded};
use crate::store::Recorder;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Instead of the file's variant; may be given several times
    #[arg(long)]
    variant: Vec<String>,
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long)]
    repeat: Option<usize>,
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    // Before any thread exists: see the supervisor.
    let supervisor = Supervisor::spawn().context("the supervisor could not be started")?;
    let overrides =
        Overrides { variants: args.variant.clone(), seeds: args.seed.map(|seed| vec![seed]), repeat: args.repeat, ..Overrides::default() };
    let mut trials: Vec<Arc<TrialPlan>> = Vec::new();
    for path in &args.scenarios {
        let loaded = match scenario::load(path, &overrides) {
            Ok(loaded) => loaded,
            Err(problems) => {
                eprint!("{}", diagnostic::render(&problems, diagnostic::Look::default()));
                return Ok(Exit::InvalidFile);
            }
        };
        trials.extend(crate::plan::plan(&loaded).trials);
    }
    if trials.is_empty() {
        return Err(Expected::new(Exit::NothingSelected, "nothing was selected").into());
    }

    let database = args.store.create()?;
    let directory = database.directory().clone();
    let run = RunId::new();
    let began = Instant::now();
    let stop = Stop::default();
    let (emitter, messages) = Emitter::new(began);
    let failed = {
        let (stop, emitter) = (stop.clone(), emitter.clone());
        move |why: &str| {
            emitter.warn(format!("the record fails: {why}"));
            stop.gently.cancel();
        }
    };
    let recorder = Recorder::start(database, run.clone(), failed).map_err(expected)?;
    let reporters = args.output.reporters(true)?;
    let dispatching = Dispatching::start(messages, Some(recorder), reporters)?;

    emitter.emit(Kind::RunStarted {
        run: run.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        semantics: SEMANTICS,
        backend: trials.first().map_or("local", |trial| trial.scenario.backend.as_str()).into(),
        trials: trials.len(),
        jobs: args.jobs,
        arguments: std::env::args().skip(1).collect(),
    });
    let executed =
        execute(supervisor, &trials, args.jobs, emitter.clone(), stop.clone(), move |trial: &TrialId| directory.artifacts(&run, trial));
    emitter.emit(Kind::RunFinished {
        counts: executed.as_ref().cloned().unwrap_or_default(),
        wall_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        interrupted: stop.gently.is_cancelled(),
    });
    drop(emitter);
    let outcome = dispatching.finish();
    executed?;
    Ok(Exit::of_outcome(&outcome))
}

/// Everything that needs a runtime. Only the work folder and the supervisor live through it: both end with it.
fn execute(
    supervisor: Supervisor,
    trials: &[Arc<TrialPlan>],
    jobs: usize,
    emitter: Emitter,
    stop: Stop,
    record_dir: impl Fn(&TrialId) -> PathBuf + Send + Sync + 'static,
) -> anyhow::Result<IndexMap<Verdict, usize>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let counts = runtime.block_on(async {
        let supervisor = supervisor.attach().context("the supervisor does not answer")?;
        stop.on_signals(|count| match count {
            1 => eprintln!("\ninterrupted: healing and tearing down; once more kills everything at once"),
            2 => eprintln!("killing everything"),
            _ => (),
        })?;
        let program = std::env::current_exe().context("this program's own file cannot be found")?;
        let hidden = embedded::SAMPLES.iter().map(|(_, text)| *text).collect();
        let work = WorkRoot::new(&program, hidden, &supervisor).context("no folder for the nodes could be made")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let tools_dir = if tools::find("docker", &path).is_none() {
            let docker = work.make_tool("docker").context("the agent's tools could not be made")?;
            docker.parent().map(Path::to_owned)
        } else {
            None
        };
        let executor = Executor {
            jobs,
            emitter,
            shared: Shared { supervisor: supervisor.clone(), work: Arc::new(work), http: HttpClient::new(), tools_dir },
            record_dir: Box::new(record_dir),
            stop,
        };
        let counts = executor.run(trials).await;
        drop(executor);
        supervisor.close().await;
        anyhow::Ok(counts)
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(counts)
}
