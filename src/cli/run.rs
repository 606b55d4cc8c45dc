//! `chaosrun run`: load, plan, execute, report. The main job.

use std::path::PathBuf;

use clap::Args;

use super::execution;
use super::exit::{Exit, Expected};
use super::output::OutputArgs;
use super::overrides::OverrideArgs;
use super::problems;
use super::store::StoreArgs;
use crate::event::TrialStarted;
use crate::plan::{self, Plan, digest};
use crate::scenario;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files; not needed with `--like`
    #[arg(required_unless_present = "like", value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let like = args.overrides.recorded(&args.store)?;
    let overrides = args.overrides.overrides(like.as_ref());
    let mut files = args.scenarios.clone();
    if files.is_empty() {
        files.extend(like.as_ref().map(|started| PathBuf::from(&started.file)));
    }
    let mut plans = Vec::new();
    let mut found = Vec::new();
    for path in &files {
        match scenario::load(path, &overrides) {
            Ok(loaded) => plans.push(plan::plan(&loaded)),
            Err(problems) => found.extend(problems),
        }
    }
    if !found.is_empty() {
        return Ok(problems::tell(&found, args.output.message_format));
    }
    let plan = Plan::joined(plans);
    if plan.trials.is_empty() {
        return Err(Expected::new(Exit::NothingSelected, "nothing was selected").into());
    }
    if let Some(started) = &like {
        tell_of_changes(started, &plan);
    }
    let jobs = args.overrides.jobs.map_or(1, |jobs| usize::try_from(jobs).unwrap_or(1));
    let executed = execution::execute(&plan.trials, jobs, &args.output, &args.store)?;
    Ok(Exit::of_outcome(&executed.outcome))
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
