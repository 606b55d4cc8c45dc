//! `chaosrun check`: checks files, and runs the tests that scenarios declare.
#![expect(clippy::print_stdout, reason = "the output of the command")]

mod prove;

use std::path::PathBuf;

use clap::Args;

use super::execution::SandboxArgs;
use super::output::{MessageFormat, OutputArgs};
use super::overrides::{self, PlaceArgs};
use super::problems;
use super::selection::SelectionArgs;
use super::store::StoreArgs;
use crate::exit::{Exit, Expected};
use chaosrun_engine::run::jobs::Jobs;
use chaosrun_scenario as scenario;
use chaosrun_scenario::Library;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Files and folders to check
    #[arg(required = true, value_name = "PATHS")]
    paths: Vec<PathBuf>,
    /// Check only the files; do not run tests
    #[arg(long)]
    files_only: bool,
    /// Run each test K times; a test with different results fails
    #[arg(long, value_name = "K", env = "CHAOSRUN_REPEAT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Run tests even if the record already contains their results for the same files
    #[arg(long)]
    fresh: bool,
    /// Maximum number of trials that run at the same time; `auto`: one per core, fewer if memory is short
    #[arg(long, value_name = "N|auto", env = "CHAOSRUN_JOBS", default_value = "1", value_parser = overrides::jobs)]
    jobs: Jobs,
    /// Maximum number of planned trials; files that plan more are refused [default: 100000]
    #[arg(long, value_name = "N", env = "CHAOSRUN_MAX_TRIALS")]
    max_trials: Option<usize>,
    #[command(flatten)]
    walls: SandboxArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    selection: SelectionArgs,
}

pub fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let files = scenario::collect(&args.paths);
    if files.is_empty() {
        let message = "no `.yaml` file at these paths";
        return Err(Expected::new(Exit::NothingSelected, message).help("`chaosrun init DIR` creates sample files").into());
    }
    let mut library = Library::default();
    let found = library.check(&files, args.max_trials);
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
    prove::prove(args, &files, &mut library)
}
