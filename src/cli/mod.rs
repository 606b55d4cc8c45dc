//! The command line: the clap tree, a file a subcommand.
#![expect(clippy::print_stderr, reason = "here and in `report`, and nowhere else, things are printed")]

pub mod docker;
pub mod exit;
mod list;
mod node;
pub mod output;
mod replay;
mod run;
mod show;
pub mod store;
pub mod style;
mod supervise;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Exit, Expected};

use crate::cluster::local::program;

#[derive(Debug, Parser)]
#[command(name = "chaosrun", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios
    Run(run::RunArgs),
    /// List what is recorded, the newest first
    List(list::ListArgs),
    /// Show a trial in full; without one the last failure
    Show(show::ShowArgs),
    /// Show a recorded run again, with its exit code
    Replay(replay::ReplayArgs),
    /// Run a stand-in node.
    #[command(hide = true)]
    Node(node::NodeArgs),
    /// Own the processes of a run.
    #[command(hide = true)]
    Supervise(supervise::SuperviseArgs),
}

/// Runs the program on the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    // Under that name it is the client and nothing else.
    if docker::is_called(std::env::args_os().next().as_deref()) {
        return docker::main();
    }
    if program::is_copy() && std::env::args_os().nth(1).is_none_or(|word| word != "node") {
        eprintln!("error: this program only runs nodes");
        return Exit::Usage.into();
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::List(args) => list::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Node(args) => Ok(node::run(args)),
        Command::Supervise(args) => supervise::run(&args),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => tell(&error).into(),
    }
}

/// Prints what went wrong; the exit code is the error's own when it was to be expected.
fn tell(error: &anyhow::Error) -> Exit {
    eprintln!("error: {error:#}");
    let Some(expected) = error.downcast_ref::<Expected>() else { return Exit::Bug };
    if let Some(help) = &expected.help {
        eprintln!("  help: {help}");
    }
    expected.exit
}
