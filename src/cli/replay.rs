//! `chaosrun replay`: shows the report of a recorded run again, with its exit code.

use clap::Args;

use super::output::OutputArgs;
use super::store::{StoreArgs, expected};
use crate::exit::Exit;
use chaosrun_event::tally::Tally;

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Run ID or unique prefix [default: the last run]
    run: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let database = args.store.open()?;
    let run = match &args.run {
        Some(prefix) => database.find_run(prefix).map_err(expected)?,
        None => match database.runs(1).map_err(expected)?.pop() {
            Some(run) => run.run,
            None => return Err(super::store::nothing(database.directory()).into()),
        },
    };
    let mut reporters = args.output.reporters(false, true)?;
    let mut tally = Tally::default();
    let each = |event| {
        tally.event(&event);
        for reporter in &mut reporters {
            reporter.event(&event);
        }
    };
    database.run_events(&run, each).map_err(expected)?;
    let mut exit = Exit::of_tally(&tally);
    for reporter in &mut reporters {
        if let Err(problem) = reporter.finish() {
            eprintln!("error: {problem}");
            exit = Exit::StoreFailed;
        }
    }
    Ok(exit)
}
