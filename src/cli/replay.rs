//! `chaosrun replay`: shows a recorded run again, as it was shown, with the exit code it had.

use clap::Args;

use super::exit::Exit;
use super::output::OutputArgs;
use super::store::{StoreArgs, expected};
use crate::report::tally::Tally;

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The run: its id, or any beginning of it that only one has [default: the last]
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
