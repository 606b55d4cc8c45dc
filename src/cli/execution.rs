//! Executes planned trials: supervisor, record, reporters, runtime. What `run` and `check` share.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indexmap::IndexMap;

use super::exit::{Exit, Expected};
use super::ground;
use super::output::OutputArgs;
use super::store::{StoreArgs, expected};
use crate::cluster::local::supervisor::Supervisor;
use crate::emit::Emitter;
use crate::event::{Kind, Verdict};
use crate::gate::certain::Certain;
use crate::ids::{RunId, TrialId};
use crate::plan::digest::SEMANTICS;
use crate::plan::missing::Missing;
use crate::plan::{TrialPlan, declared};
use crate::removal;
use crate::run::able::{self, Unable, Unwalled};
use crate::run::backend;
use crate::run::budget::Cost;
use crate::run::dispatcher::{Dispatching, Outcome};
use crate::run::executor::Executor;
use crate::run::jobs::Slots;
use crate::run::queue::Policy;
use crate::run::scorings;
use crate::run::stop::Stop;
use crate::run::tape::{self, Records};
use crate::run::until::Until;
use crate::scenario::model::Backend;
use crate::store::{Database, Directory, Recorder, Resuming};

/// How agents are kept apart from this machine.
#[derive(Debug, Args)]
pub struct WallArgs {
    /// Let an agent that asks for a sandbox run as you do where there can be none; the record says so
    #[arg(long)]
    allow_host_shell: bool,
}

/// How trials are executed, beside what they are.
#[derive(Debug, Default)]
pub struct How {
    /// The name of the campaign that they are of.
    pub campaign: Option<String>,
    pub slots: Slots,
    /// Its `jobs` and `spent` are decided here.
    pub policy: Policy,
    /// Run only what is missing in the record.
    pub resume: Option<Resume>,
    pub records: Records,
    /// Stop as soon as this is decided.
    pub until: Option<Until>,
    /// Stop as soon as the gate's answer is certain.
    pub certain: Option<Certain>,
    /// K of N, of a share.
    pub share: Option<(u32, u32)>,
    /// The command judges by itself what the run has come to: the run's own exit code is not the command's, and not told.
    pub judged_apart: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Resume {
    /// Invalid trials are missing, too.
    pub retry_invalid: bool,
}

/// Trials of earlier runs that are told at once.
const AT_ONCE: usize = 4_000;

/// What came of it.
pub struct Executed {
    pub run: RunId,
    pub outcome: Outcome,
}

/// Starts the supervisor first, then everything else; returns when nothing of it is left.
pub fn execute(trials: &[Arc<TrialPlan>], how: How, walls: &WallArgs, output: &OutputArgs, store: &StoreArgs) -> anyhow::Result<Executed> {
    tape::ready(trials.iter().map(|trial| &**trial)).map_err(|why| {
        Expected::new(Exit::InvalidFile, why).help("`chaosrun run SCENARIO --record FOLDER` writes cassettes, one for each seed")
    })?;
    // Before any thread exists: the kernel ties the supervisor to the thread that started it.
    let supervisor = Supervisor::spawn().context("the supervisor could not be started")?;
    let database = store.create()?;
    let directory = database.directory().clone();
    let run = RunId::new();
    // Held until the run is over: what is missing is decided by what is recorded, and another would decide the same.
    let _alone = how.resume.map(|_| Resuming::begin(&directory, &run)).transpose().map_err(expected)?;
    // What is in images is known only later, and part of what a trial is.
    let known = match how.resume {
        Some(resume) if trials.iter().all(|trial| trial.scenario.backend == Backend::Local) => Some(resume.sort(trials, &directory)?),
        _ => None,
    };
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
    let dispatching = Dispatching::start(messages, Some(recorder), output.reporters(true, !how.judged_apart)?)?;

    emitter.emit(Kind::RunStarted {
        run: run.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        semantics: SEMANTICS,
        backend: trials.first().map_or("local", |trial| trial.scenario.backend.as_str()).into(),
        trials: trials.len(),
        jobs: how.slots.count.max(1),
        jobs_by: how.slots.by.clone(),
        campaign: how.campaign.clone(),
        until: how.until.as_ref().map(Until::sought),
        arguments: std::env::args().skip(1).collect(),
    });
    let plan = declared::declared(trials.iter().map(|trial| &**trial), how.share);
    emitter.emit(Kind::PlanDeclared(Box::new(plan)));
    for declared in scorings::declared(trials) {
        emitter.emit(declared);
    }
    let setting = Setting { run: run.clone(), directory, began, emitter: emitter.clone(), stop: stop.clone() };
    let executed = in_runtime(supervisor, trials, known, how, walls, setting);
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
    executed?;
    Ok(Executed { run, outcome })
}

/// What a run is made of, whatever its trials are.
struct Setting {
    run: RunId,
    directory: Directory,
    began: Instant,
    emitter: Emitter,
    stop: Stop,
}

/// Everything that needs a runtime. The work folder and the supervisor end with it.
fn in_runtime(
    supervisor: Supervisor,
    trials: &[Arc<TrialPlan>],
    known: Option<Missing>,
    how: How,
    walls: &WallArgs,
    setting: Setting,
) -> anyhow::Result<IndexMap<usize, Verdict>> {
    let Setting { run, directory, began, emitter, stop } = setting;
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
        if let Some(variant) = able::shellless(trials.iter().map(|trial| &**trial)) {
            let message = format!("no `bash` on the PATH: the agent of the variant `{variant}` works in one");
            return Err(Expected::new(Exit::TrialInvalid, message).help("install bash, or use `--backend docker`").into());
        }
        let unwalled = able::unwalled(trials.iter().map(|trial| &**trial)).await;
        if let Some(unwalled) = unwalled.as_ref().filter(|_| !walls.allow_host_shell) {
            return Err(unsafe_here(unwalled).into());
        }
        let mut shared = ground::shared(supervisor, run.clone(), &contained, |progress| eprintln!("{progress}")).await?;
        shared.host_shell = unwalled.is_some();
        shared.records = Arc::new(how.records);
        let unable = able::unable(trials.iter().map(|trial| &**trial), shared.containers.as_deref()).await;
        if let Some(unable) = unable.map_err(|error| Expected::new(Exit::TrialInvalid, error.to_string()))? {
            return Err(refused(&unable).into());
        }
        let trials: Vec<_> = match &shared.containers {
            Some(containers) => trials.iter().map(|trial| containers.identified(trial)).collect(),
            None => trials.to_vec(),
        };
        let missing = match (known, how.resume) {
            (Some(missing), _) => missing,
            (None, Some(resume)) => resume.sort(&trials, &directory)?,
            (None, None) => Missing { trials, ..Missing::default() },
        };
        let until = how.until.map(|until| told(until, &missing));
        let certain = how.certain.map(|certain| learnt(certain, &missing));
        let mut verdicts: IndexMap<usize, Verdict> = missing.kept.iter().map(|kept| (kept.number, kept.verdict)).collect();
        for (nth, kept) in missing.kept.into_iter().enumerate() {
            emitter.emit(Kind::TrialKept(kept));
            // Many are told no faster than they are recorded: they need not all be in memory at once.
            if nth % AT_ONCE == AT_ONCE - 1 {
                emitter.durable().await.map_err(|why| Expected::new(Exit::StoreFailed, why))?;
            }
        }
        let spent = Cost { usd: missing.usd, tokens: missing.tokens };
        let policy = Policy { jobs: how.slots.count, spent, until, certain, ..how.policy };
        let record_dir = Box::new(move |trial: &TrialId| directory.artifacts(&run, trial));
        let warnings = emitter.clone();
        let gently = stop.gently.clone();
        let executor = Executor { policy, began, emitter, shared: shared.clone(), record_dir, stop };
        verdicts.extend(executor.run(&missing.trials).await);
        if removal::tears_down(gently.is_cancelled())
            && let Err(error) = backend::close(&shared).await
        {
            warnings.warn(format!("{error}; `chaosrun doctor --clean` tries again"));
        }
        anyhow::Ok(verdicts)
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(verdicts)
}

/// What is to be decided, told of what is recorded already and not run again.
fn told(mut until: Until, missing: &Missing) -> Until {
    let again: HashSet<usize> = missing.trials.iter().map(|trial| trial.number).collect();
    for kept in missing.kept.iter().filter(|kept| !again.contains(&kept.number)) {
        until.ended(kept.number, kept.verdict, kept.score);
    }
    until
}

/// As [`told`], of the gate.
fn learnt(mut certain: Certain, missing: &Missing) -> Certain {
    let again: HashSet<usize> = missing.trials.iter().map(|trial| trial.number).collect();
    for kept in missing.kept.iter().filter(|kept| !again.contains(&kept.number)) {
        certain.ended(kept.number, kept.verdict, kept.reason.as_ref().map(|reason| &*reason.code));
    }
    certain
}

impl Resume {
    /// The plan without what the record has already.
    fn sort(self, trials: &[Arc<TrialPlan>], directory: &Directory) -> anyhow::Result<Missing> {
        let missing = Database::open(directory).and_then(|database| database.missing(trials, self.retry_invalid)).map_err(expected)?;
        let Some((trial, run)) = missing.running.first() else { return Ok(missing) };
        let others = missing.running.len() - 1;
        let more = if others > 0 { format!(", and {others} more") } else { String::new() };
        let message = format!("trial `{trial}` of this plan runs at this moment, in run `{run}`{more}");
        Err(Expected::new(Exit::Usage, message).help("wait until that run has ended, or end it").into())
    }
}

/// An agent that would be no safer than what it runs: said before anything is started.
fn unsafe_here(unwalled: &Unwalled) -> Expected {
    let Unwalled { variant, why } = unwalled;
    let message = format!("the variant `{variant}` asks for a sandbox, and on `local` of this machine there can be none: {why}");
    Expected::new(Exit::TrialInvalid, message)
        .help("install bubblewrap, use `--backend docker`, or `--allow-host-shell` to let it run as you do")
}

/// A fault that this machine cannot do: said before anything is started.
fn refused(unable: &Unable) -> Expected {
    let spot = unable.place.spot();
    let message = format!(
        "`{}` cannot be done on `{}` of this machine: {}\n  at {}:{}: {}",
        unable.fault,
        unable.backend.as_str(),
        unable.why,
        spot.file,
        spot.line,
        spot.text.trim()
    );
    Expected::new(Exit::TrialInvalid, message).help("`chaosrun doctor` shows what each fault needs and what is there")
}
