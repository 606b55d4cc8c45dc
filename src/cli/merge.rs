//! `chaosrun merge`: merges records of several machines into one.
#![expect(clippy::print_stdout, reason = "the output of the command")]

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::MessageFormat;
use super::store::expected;
use crate::exit::Exit;
use chaosrun_event::figures::plural;
use chaosrun_store::{Database, Directory};

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Target record: a directory or a `.db` file; created if it does not exist
    #[arg(value_name = "INTO")]
    into: PathBuf,
    /// Source records: directories or `.db` files; they are not changed
    #[arg(value_name = "FROM", required = true)]
    from: Vec<PathBuf>,
    /// Output format
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
}

pub fn run(args: &MergeArgs) -> anyhow::Result<Exit> {
    // Opens all sources before anything is copied.
    let sources = args.from.iter().map(|path| Database::open(&Directory::of(path))).collect::<Result<Vec<_>, _>>().map_err(expected)?;
    let mut into = Database::create(&Directory::of(&args.into)).map_err(expected)?;
    for (source, path) in sources.iter().zip(&args.from) {
        let merged = into.merge(source).map_err(expected)?;
        match args.message_format {
            MessageFormat::Human => {
                let (runs, trials, events) = (plural(merged.runs, "run"), plural(merged.trials, "trial"), plural(merged.events, "event"));
                println!("{}: copied {runs}, {trials}, {events}; {} already present", path.display(), plural(merged.there, "run"));
            }
            MessageFormat::Json => println!(
                "{}",
                json!({ "from": path, "runs": merged.runs, "trials": merged.trials, "events": merged.events, "there": merged.there })
            ),
        }
    }
    Ok(Exit::Ok)
}
