//! Execution of planned trials, with supervisor, record, reporters and async runtime. `run`, `check` and other commands share this module.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indexmap::IndexMap;

use super::ground;
use super::output::OutputArgs;
use super::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use chaosrun_analysis::gate::certain_regression::CertainRegression;
use chaosrun_backend_local::supervisor::Supervisor;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_base::removal;
use chaosrun_base::task::Panics;
use chaosrun_engine::run::backend;
use chaosrun_engine::run::budget::Cost;
use chaosrun_engine::run::dispatcher::{Dispatching, RunOutcome};
use chaosrun_engine::run::early_stopping::EarlyStopping;
use chaosrun_engine::run::executor::Executor;
use chaosrun_engine::run::jobs::Slots;
use chaosrun_engine::run::preflight;
use chaosrun_engine::run::preflight::{MissingFeature, SandboxUnavailable};
use chaosrun_engine::run::queue::Policy;
use chaosrun_engine::run::recording;
use chaosrun_engine::run::recording::Records;
use chaosrun_engine::run::scorings;
use chaosrun_engine::run::stop::StopTokens;
use chaosrun_event::emit::Emitter;
use chaosrun_event::{EventKind, Verdict};
use chaosrun_plan::resume::ResumePlan;
use chaosrun_plan::{TrialPlan, declared};
use chaosrun_scenario::digest::SEMANTICS;
use chaosrun_scenario::model::Backend;
use chaosrun_store::{Database, Directory, Recorder, Resuming};

/// Options for the separation of agents from this machine.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// If this machine supports no sandbox, run agents with your permissions; the record states which trials ran this way
    #[arg(long)]
    allow_host_shell: bool,
}

/// Options of the execution of trials, apart from their plan.
#[derive(Debug, Default)]
pub struct ExecuteOptions {
    /// Name of the campaign that the trials belong to. `None` if they belong to no campaign.
    pub campaign: Option<String>,
    pub slots: Slots,
    /// Rules for starting trials, such as budgets. [`execute`] sets the fields `jobs` and `spent`.
    pub policy: Policy,
    /// Settings of a resumed run, which runs only the trials that are missing in the record. `None` runs all trials.
    pub resume: Option<Resume>,
    pub records: Records,
    /// Comparisons to decide. The run stops as soon as all are decided. `None` runs the whole plan.
    pub until: Option<EarlyStopping>,
    /// Conditions of the gate. The run stops as soon as the result of the gate is certain. `None` runs the whole plan.
    pub certain: Option<CertainRegression>,
    /// Number of the shard and number of all shards. `None` if the whole plan is run.
    pub share: Option<(u32, u32)>,
    /// True if the command computes its exit code from the results itself. In this case, the exit code of the run is not shown.
    pub judged_apart: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Resume {
    /// True if invalid trials in the record are run again.
    pub retry_invalid: bool,
}

/// Maximum number of reused trials that are reported before the record must have written their events.
const AT_ONCE: usize = 4_000;

/// Result of an execution: the id of the run, and its outcome.
pub struct ExecutedRun {
    pub run: RunId,
    pub outcome: RunOutcome,
}

/// Executes the trials. The supervisor starts before everything else. The function returns after all processes have ended.
pub fn execute(
    trials: &[Arc<TrialPlan>],
    how: ExecuteOptions,
    walls: &SandboxArgs,
    output: &OutputArgs,
    store: &StoreArgs,
) -> anyhow::Result<ExecutedRun> {
    recording::ready(trials.iter().map(|trial| &**trial)).map_err(|why| {
        Expected::new(Exit::InvalidFile, why).help("record cassettes with `chaosrun run SCENARIO --record FOLDER`, one for each seed")
    })?;
    // Starts the supervisor before any thread exists, because the kernel ties the supervisor to the thread that started it.
    let supervisor = Supervisor::spawn().context("cannot start the supervisor")?;
    let database = store.create()?;
    let directory = database.directory().clone();
    let run = RunId::new();
    // Holds the lock until the run is over. The recorded trials determine the missing ones, and a parallel run would select the same
    // trials.
    let _alone = how.resume.map(|_| Resuming::begin(&directory, &run)).transpose().map_err(expected)?;
    // The identity of a trial includes the content of its images. For trials with images, the recorded trials are therefore looked up
    // later.
    let known = match how.resume {
        Some(resume) if trials.iter().all(|trial| !trial.scenario.backend.images) => Some(resume.sort(trials, &directory)?),
        _ => None,
    };
    let began = Instant::now();
    let stop = StopTokens::default();
    let (emitter, messages) = Emitter::new(began);
    let failed = {
        let (stop, emitter) = (stop.clone(), emitter.clone());
        move |why: &str| {
            emitter.warn(format!("the record cannot be written, so the run stops: {why}"));
            stop.gently.cancel();
        }
    };
    let recorder = Recorder::start(database, run.clone(), failed).map_err(expected)?;
    let dispatching = Dispatching::start(messages, Some(recorder), output.reporters(true, !how.judged_apart)?)?;

    emitter.emit(EventKind::RunStarted {
        run: run.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        semantics: SEMANTICS,
        backend: trials.first().map(|trial| trial.scenario.backend).unwrap_or_default().as_str().into(),
        trials: trials.len(),
        jobs: how.slots.count.max(1),
        jobs_by: how.slots.by.clone(),
        campaign: how.campaign.clone(),
        until: how.until.as_ref().map(EarlyStopping::sought),
        arguments: std::env::args().skip(1).collect(),
    });
    let plan = declared::declared(trials.iter().map(|trial| &**trial), how.share);
    emitter.emit(EventKind::PlanDeclared(Box::new(plan)));
    for declared in scorings::declared(trials) {
        emitter.emit(declared);
    }
    let panics = Panics::within_current();
    let setting = RunSetting { run: run.clone(), directory, began, emitter: emitter.clone(), stop: stop.clone(), panics: panics.clone() };
    let executed = in_runtime(supervisor, trials, known, how, walls, setting);
    let mut counts: IndexMap<Verdict, usize> = IndexMap::new();
    for verdict in executed.iter().flat_map(IndexMap::values) {
        *counts.entry(*verdict).or_default() += 1;
    }
    emitter.emit(EventKind::RunFinished {
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
    // Trials that were running at a panic have ended as bugs. A panic may also have occurred between trials.
    if let Some(panicked) = panics.seen() {
        return Err(panicked.into());
    }
    Ok(ExecutedRun { run, outcome })
}

/// Environment of a run that does not depend on its trials.
struct RunSetting {
    run: RunId,
    directory: Directory,
    began: Instant,
    emitter: Emitter,
    stop: StopTokens,
    panics: Panics,
}

/// Executes all parts of the run that need an async runtime. The work folder and the supervisor are removed when this function returns.
fn in_runtime(
    supervisor: Supervisor,
    trials: &[Arc<TrialPlan>],
    known: Option<ResumePlan>,
    how: ExecuteOptions,
    walls: &SandboxArgs,
    setting: RunSetting,
) -> anyhow::Result<IndexMap<usize, Verdict>> {
    let RunSetting { run, directory, began, emitter, stop, panics } = setting;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let verdicts = runtime.block_on(panics.scope(async {
        let supervisor = supervisor.attach().context("the supervisor does not answer")?;
        stop.on_signals(|count| match count {
            1 => eprintln!("\ninterrupted: removing faults and tearing down; a second interrupt kills everything immediately"),
            2 => eprintln!("killing everything"),
            _ => (),
        })?;
        let in_containers = trials.iter().filter(|trial| trial.scenario.backend.images);
        let contained: Vec<_> = in_containers.map(|trial| &*trial.scenario.cluster).collect();
        if let Some(variant) = preflight::missing_shell(trials.iter().map(|trial| &**trial)) {
            let message = format!("no `bash` in PATH: the agent of the variant `{variant}` needs it");
            return Err(Expected::new(Exit::TrialInvalid, message)
                .help(format!("install bash, or use `--backend {}`", containing()))
                .into());
        }
        let sandbox_unavailable = preflight::sandbox_unavailable(trials.iter().map(|trial| &**trial)).await;
        if let Some(sandbox_unavailable) = sandbox_unavailable.as_ref().filter(|_| !walls.allow_host_shell) {
            return Err(unsafe_here(sandbox_unavailable).into());
        }
        let mut shared = ground::shared(supervisor, run.clone(), &contained, &|progress| eprintln!("{progress}")).await?;
        shared.host_shell = sandbox_unavailable.is_some();
        shared.records = Arc::new(how.records);
        let unable = preflight::unable(trials.iter().map(|trial| &**trial), shared.containers.as_deref()).await;
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
            (None, None) => ResumePlan { trials, ..ResumePlan::default() },
        };
        let until = how.until.map(|until| stopping_with_recorded(until, &missing));
        let certain = how.certain.map(|certain| regression_with_recorded(certain, &missing));
        let mut verdicts: IndexMap<usize, Verdict> = missing.kept.iter().map(|kept| (kept.number, kept.verdict)).collect();
        for (nth, kept) in missing.kept.into_iter().enumerate() {
            emitter.emit(EventKind::TrialKept(kept));
            // Waits for the record, so that not all reused trials have to be in memory at once.
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
            warnings.warn(format!("{error}; run `chaosrun doctor --clean` to try again"));
        }
        anyhow::Ok(verdicts)
    }))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(verdicts)
}

/// Adds recorded results to the comparisons. Results of trials that are run again are excluded.
fn stopping_with_recorded(mut until: EarlyStopping, missing: &ResumePlan) -> EarlyStopping {
    let again: HashSet<usize> = missing.trials.iter().map(|trial| trial.number).collect();
    for kept in missing.kept.iter().filter(|kept| !again.contains(&kept.number)) {
        until.ended(kept.number, kept.verdict, kept.score);
    }
    until
}

/// Adds recorded results to the conditions of the gate. Results of trials that are run again are excluded.
fn regression_with_recorded(mut certain: CertainRegression, missing: &ResumePlan) -> CertainRegression {
    let again: HashSet<usize> = missing.trials.iter().map(|trial| trial.number).collect();
    for kept in missing.kept.iter().filter(|kept| !again.contains(&kept.number)) {
        certain.ended(kept.number, kept.verdict, kept.reason.as_ref().map(|reason| &reason.code));
    }
    certain
}

impl Resume {
    /// Divides the planned trials into trials that are recorded and trials that are missing in the record.
    fn sort(self, trials: &[Arc<TrialPlan>], directory: &Directory) -> anyhow::Result<ResumePlan> {
        let missing = Database::open(directory).and_then(|database| database.missing(trials, self.retry_invalid)).map_err(expected)?;
        let Some((trial, run)) = missing.running.first() else { return Ok(missing) };
        let others = missing.running.len() - 1;
        let more = if others > 0 { format!(", and {others} more") } else { String::new() };
        let message = format!("trial `{trial}` of this plan is currently running in run `{run}`{more}");
        Err(Expected::new(Exit::Usage, message).help("wait for that run or stop it").into())
    }
}

/// Returns the error that the requested sandbox for an agent is not available. The error is reported before any trial starts.
fn unsafe_here(sandbox_unavailable: &SandboxUnavailable) -> Expected {
    let SandboxUnavailable { variant, backend, why } = sandbox_unavailable;
    let backend = backend.as_str();
    let message = format!("the variant `{variant}` needs a sandbox, which the backend `{backend}` cannot provide on this machine: {why}");
    Expected::new(Exit::TrialInvalid, message).help(format!(
        "install bubblewrap, use `--backend {}`, or use `--allow-host-shell` to run the agent with your permissions",
        containing()
    ))
}

/// Returns the name of a backend on which agents do not need a shell or a sandbox of this machine.
fn containing() -> &'static str {
    Backend::first(|backend| backend.contains_agents).unwrap_or_default().as_str()
}

/// Returns the error that this machine does not support a fault. The error is reported before any trial starts.
fn refused(unable: &MissingFeature) -> Expected {
    let spot = unable.place.spot();
    let message = format!(
        "the fault `{}` is not available with the backend `{}` on this machine: {}\n  at {}:{}: {}",
        unable.fault,
        unable.backend.as_str(),
        unable.why,
        spot.file,
        spot.line,
        spot.text.trim()
    );
    Expected::new(Exit::TrialInvalid, message).help("`chaosrun doctor` lists the requirements of each fault and what this machine provides")
}
