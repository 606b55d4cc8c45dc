//! `chaosrun check`: are the files right, and do the scenarios prove what they say?
#![expect(clippy::print_stdout, reason = "the outcome is what was asked for")]

mod prove;

use std::path::PathBuf;

use clap::Args;

use super::execution::WallArgs;
use super::exit::{Exit, Expected};
use super::output::{MessageFormat, OutputArgs};
use super::overrides::{self, PlaceArgs};
use super::problems;
use super::selection::SelectionArgs;
use super::store::StoreArgs;
use crate::run::jobs::Jobs;
use crate::scenario;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Files and folders
    #[arg(required = true, value_name = "PATHS")]
    paths: Vec<PathBuf>,
    /// Check the files and run nothing
    #[arg(long)]
    files_only: bool,
    /// Run each proof this often: one that is not always the same has failed
    #[arg(long, value_name = "K", env = "CHAOSRUN_REPEAT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Run again what the record already proves of the same files
    #[arg(long)]
    fresh: bool,
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
    prove::prove(args, &files)
}
