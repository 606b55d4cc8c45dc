//! `chaosrun check`: are the files right, and do the scenarios prove what they say?
#![expect(clippy::print_stdout, reason = "the outcome is what was asked for")]

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::execution::{self, How, WallArgs};
use super::exit::{Exit, Expected};
use super::output::{MessageFormat, OutputArgs};
use super::overrides::{self, PlaceArgs};
use super::problems;
use super::selection::SelectionArgs;
use super::store::StoreArgs;
use crate::plan::{self, Plan};
use crate::run::jobs::{Jobs, Machine};
use crate::scenario::{self, Kind};

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Files and folders
    #[arg(required = true, value_name = "PATHS")]
    paths: Vec<PathBuf>,
    /// Check the files and run nothing
    #[arg(long)]
    files_only: bool,
    /// Run this many trials at once
    #[arg(long, value_name = "N|auto", env = "CHAOSRUN_JOBS", default_value = "1", value_parser = overrides::jobs)]
    jobs: Jobs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    walls: WallArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let files = scenario::collect(&args.paths);
    if files.is_empty() {
        let message = "no `.yaml` file at these paths";
        return Err(Expected::new(Exit::NothingSelected, message).help("`chaosrun init DIR` writes working samples").into());
    }
    let found = scenario::check(&files);
    let exit = problems::tell(&found, args.output.message_format);
    if exit != Exit::Ok {
        return Ok(exit);
    }
    if args.output.message_format == MessageFormat::Human {
        println!("{} {} without a problem", files.len(), if files.len() == 1 { "file" } else { "files" });
    }
    if args.files_only {
        return Ok(exit);
    }
    prove(args, &files)
}

/// Runs the scenarios' own tests: each has the verdicts that are right.
fn prove(args: &CheckArgs, files: &[PathBuf]) -> anyhow::Result<Exit> {
    let mut checks = Vec::new();
    for file in files {
        if Kind::of_file(file) != Some(Kind::Scenario) {
            continue;
        }
        match scenario::load(file, &args.place.overrides()) {
            Ok(loaded) => checks.extend(plan::checks(&loaded)),
            Err(found) => return Ok(problems::tell(&found, args.output.message_format)),
        }
    }
    if checks.is_empty() {
        return Ok(Exit::Ok);
    }
    let checks = match args.selection.of(checks, |check| &check.trial) {
        Ok(checks) => checks,
        Err(found) => return Ok(problems::tell(&found, args.output.message_format)),
    };
    if checks.is_empty() {
        return Err(Expected::new(Exit::NothingSelected, "no test of these scenarios was selected").into());
    }
    let plan = Plan::joined(vec![Plan { trials: checks.iter().map(|check| Arc::clone(&check.trial)).collect() }]);
    let slots = args.jobs.slots(&plan.trials, Machine::here());
    let executed = execution::execute(&plan.trials, How { slots, ..How::default() }, &args.walls, &args.output, &args.store)?;
    let mut wrong = 0;
    for (check, trial) in checks.iter().zip(&plan.trials) {
        let found = executed.verdicts.get(&trial.number);
        let right = found.is_some_and(|found| check.expect.contains(found));
        wrong += usize::from(!right);
        if args.output.message_format == MessageFormat::Human {
            let word = if right { "right" } else { "WRONG" };
            let found = found.map_or("not run", |found| found.as_str());
            let wanted: Vec<_> = check.expect.iter().map(|verdict| verdict.as_str()).collect();
            println!("{word}  {:<44} {found}, wanted {}", format!("{}/{}", trial.scenario.name, check.name), wanted.join(" or "));
        }
    }
    Ok(match Exit::of_outcome(&executed.outcome) {
        // Verdicts of checks are judged here, not as those of a run.
        Exit::StoreFailed => Exit::StoreFailed,
        Exit::Interrupted => Exit::Interrupted,
        _ if wrong > 0 => Exit::TrialFailed,
        _ => Exit::Ok,
    })
}
