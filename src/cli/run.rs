//! `chaosrun run`, the main command: loads, plans, executes and reports.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};

use super::choice::choice;

use super::early_stopping::EarlyStopArgs;
use super::execution::{self, ExecuteOptions, Resume, SandboxArgs};
use super::output::OutputArgs;
use super::overrides::OverrideArgs;
use super::policy::{self, PolicyArgs};
use super::selection::SelectionArgs;
use super::store::StoreArgs;
use super::{planned, problems};
use crate::exit::{Exit, Expected};
use chaosrun_engine::run::recording;
use chaosrun_engine::run::recording::Records;
use chaosrun_event::TrialStarted;
use chaosrun_plan::TrialSchedule;
use chaosrun_scenario::CassetteReplay;
use chaosrun_scenario::digest;
use chaosrun_scenario::model::{Campaign, Matching};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files or one campaign file; not required with `--like`
    #[arg(required_unless_present = "like", value_name = "FILE")]
    scenarios: Vec<PathBuf>,
    #[command(flatten)]
    walls: SandboxArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    until: EarlyStopArgs,
    #[command(flatten)]
    cassettes: CassetteArgs,
}

/// Options for recording and replaying the sessions of models.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cassettes")]
struct CassetteArgs {
    /// Record model traffic: a folder for one cassette file per trial, or a new `.jsonl` file for a single trial
    #[arg(long, value_name = "FOLDER|FILE", env = "CHAOSRUN_RECORD", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Replay model answers from these cassettes, with the recorded variants and seeds
    #[arg(long, value_name = "FOLDER|FILE", env = "CHAOSRUN_REPLAY", conflicts_with_all = ["variants", "like"])]
    replay: Option<PathBuf>,
    /// Rule for matching requests with the recorded requests
    #[arg(long, value_name = "MODE", env = "CHAOSRUN_REPLAY_MODE", default_value = "strict", value_parser = modes())]
    replay_mode: Matching,
}

/// Returns a parser of the modes in which a replay matches requests with recorded ones.
fn modes() -> impl TypedValueParser<Value = Matching> {
    let strict = PossibleValue::new("strict").help("Requests must be identical, except for cluster output; otherwise the trial is invalid");
    let lenient = PossibleValue::new("lenient").help("The n-th request gets the n-th answer; differences are reported");
    choice(vec![(strict, Matching::Strict), (lenient, Matching::Lenient)])
}

impl CassetteArgs {
    /// Returns the cassette files to write, and creates their folders.
    fn records(&self, plan: &TrialSchedule) -> Result<Records, Expected> {
        let Some(path) = &self.record else { return Ok(Records::default()) };
        let records = recording::records(path, plan.trials.iter().map(|trial| &**trial))
            .map_err(|why| Expected::new(Exit::Usage, why).help("name a folder, such as `--record cassettes`, or a new `.jsonl` file"))?;
        for folder in records.values().filter_map(|file| file.parent()).filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| {
                Expected::new(Exit::Usage, format!("cannot record to `{}`: {error}", folder.display())).help("name a writable folder")
            })?;
        }
        Ok(records)
    }
}

pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let like = args.overrides.recorded(&args.store)?;
    let mut overrides = args.overrides.overrides(like.as_ref())?;
    overrides.replay = args.cassettes.replay.clone().map(|path| CassetteReplay { path, mode: args.cassettes.replay_mode });
    let mut files = args.scenarios.clone();
    if files.is_empty() {
        files.extend(like.as_ref().map(|started| PathBuf::from(&started.file)));
    }
    let planned = match planned::load(&files, &overrides, &args.selection)? {
        Ok(planned) => planned,
        Err(problems) => return Ok(problems::tell(&problems, args.output.message_format)),
    };
    let plan = planned.plan;
    if let Some(started) = &like {
        tell_of_changes(started, &plan);
    }
    let how = how(args, &plan, planned.campaign.as_deref())?;
    let unbounded = policy::unbounded(&plan.trials, &how.policy.budget);
    if !unbounded.is_empty() {
        return Ok(problems::tell(&unbounded, args.output.message_format));
    }
    let executed = execution::execute(&plan.trials, how, &args.walls, &args.output, &args.store)?;
    Ok(Exit::of_outcome(&executed.outcome))
}

/// Returns the options of the execution. The command line takes precedence over the campaign.
fn how(args: &RunArgs, plan: &TrialSchedule, campaign: Option<&Campaign>) -> anyhow::Result<ExecuteOptions> {
    let policy = args.policy.policy(campaign);
    if args.cassettes.record.is_some() && policy.retries > 0 {
        let message = "`--retries` cannot be combined with `--record`: a cassette would contain two sessions";
        return Err(Expected::new(Exit::Usage, message).help("remove `--retries` or `--record`").into());
    }
    Ok(ExecuteOptions {
        campaign: campaign.map(|campaign| campaign.name.clone()),
        slots: args.overrides.slots(&plan.trials),
        policy,
        resume: args.policy.resume.then_some(Resume { retry_invalid: args.policy.retry_invalid }),
        records: args.cassettes.records(plan)?,
        until: args.until.comparisons(plan, campaign, args.selection.share().is_some())?,
        share: args.selection.share(),
        ..ExecuteOptions::default()
    })
}

/// Prints a warning if the files have changed since the trial was recorded. The option `--like` repeats a recorded trial with the current
/// files.
fn tell_of_changes(started: &TrialStarted, plan: &TrialSchedule) {
    let Some(trial) = plan.trials.first() else { return };
    if digest::with_images(&trial.yardstick, &started.images) != started.yardstick {
        eprintln!("warning: the scenario has changed since the trial, or `--set` was used: this is a different trial");
    } else if trial.subject != started.subject {
        eprintln!("warning: the variant `{}` has changed since the trial", started.variant);
    }
}
