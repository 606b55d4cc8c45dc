//! `chaosrun run`: load, plan, execute, report. The main job.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::execution::{self, How, Resume, WallArgs};
use super::exit::{Exit, Expected};
use super::output::OutputArgs;
use super::overrides::OverrideArgs;
use super::policy::{self, PolicyArgs};
use super::selection::SelectionArgs;
use super::store::StoreArgs;
use super::until::UntilArgs;
use super::{planned, problems};
use crate::event::TrialStarted;
use crate::plan::{Plan, digest};
use crate::run::tape::{self, Records};
use crate::scenario::Replay;
use crate::scenario::model::{Campaign, Matching};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files, or one campaign; not needed with `--like`
    #[arg(required_unless_present = "like", value_name = "FILE")]
    scenarios: Vec<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    cassettes: CassetteArgs,
    #[command(flatten)]
    walls: WallArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// Sessions of models, written down or lived again.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cassettes")]
struct CassetteArgs {
    /// Write all that passes between agents and their models to this folder, a file a trial, or to this one `.jsonl` file
    #[arg(long, value_name = "FOLDER|FILE", env = "CHAOSRUN_RECORD", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Let recorded sessions answer instead of models: their variants, on the seeds they were recorded with
    #[arg(long, value_name = "FOLDER|FILE", env = "CHAOSRUN_REPLAY", conflicts_with_all = ["variants", "like"])]
    replay: Option<PathBuf>,
    /// How well what is asked must match what was recorded
    #[arg(long, value_name = "MODE", env = "CHAOSRUN_REPLAY_MODE", default_value = "strict")]
    replay_mode: Matching,
}

impl ValueEnum for Matching {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Strict, Self::Lenient]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Strict => PossibleValue::new("strict").help("All but what the cluster says is as it was, or the trial is invalid"),
            Self::Lenient => PossibleValue::new("lenient").help("The n-th request gets the n-th answer; differences are told"),
        })
    }
}

impl CassetteArgs {
    /// The files to be written; their folder is there afterwards.
    fn records(&self, plan: &Plan) -> Result<Records, Expected> {
        let Some(path) = &self.record else { return Ok(Records::default()) };
        let records = tape::records(path, plan.trials.iter().map(|trial| &**trial)).map_err(|why| {
            Expected::new(Exit::Usage, why).help("name a folder, such as `--record cassettes`, or a `.jsonl` file that is not there")
        })?;
        for folder in records.values().filter_map(|file| file.parent()).filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| {
                Expected::new(Exit::Usage, format!("cannot record to `{}`: {error}", folder.display()))
                    .help("name a folder that can be written")
            })?;
        }
        Ok(records)
    }
}

pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let like = args.overrides.recorded(&args.store)?;
    let mut overrides = args.overrides.overrides(like.as_ref());
    overrides.replay = args.cassettes.replay.clone().map(|path| Replay { path, mode: args.cassettes.replay_mode });
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

/// As the command line says, else as the campaign does.
fn how(args: &RunArgs, plan: &Plan, campaign: Option<&Campaign>) -> anyhow::Result<How> {
    let policy = args.policy.policy(campaign);
    if args.cassettes.record.is_some() && policy.retries > 0 {
        let message = "a trial that is recorded is not tried again: its cassette would hold two sessions";
        return Err(Expected::new(Exit::Usage, message).help("leave out `--retries`, or `--record`").into());
    }
    Ok(How {
        campaign: campaign.map(|campaign| campaign.name.clone()),
        slots: args.overrides.slots(&plan.trials),
        policy,
        resume: args.policy.resume.then_some(Resume { retry_invalid: args.policy.retry_invalid }),
        records: args.cassettes.records(plan)?,
        until: args.until.comparisons(plan, campaign, args.selection.share().is_some())?,
        share: args.selection.share(),
        ..How::default()
    })
}

/// `--like` repeats a trial of the files as they are now, which may not be those of then.
fn tell_of_changes(started: &TrialStarted, plan: &Plan) {
    let Some(trial) = plan.trials.first() else { return };
    if digest::with_images(&trial.yardstick, &started.images) != started.yardstick {
        eprintln!("warning: the scenario has changed since, or `--set` was used: this is not the same trial any more");
    } else if trial.subject != started.subject {
        eprintln!("warning: the variant `{}` has changed since", started.variant);
    }
}
