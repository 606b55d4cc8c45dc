//! The command line: the clap tree, a file a subcommand.
#![expect(clippy::print_stderr, reason = "here and in `report`, and nowhere else, things are printed")]

mod check;
mod cluster;
mod compare;
pub mod docker;
mod doctor;
mod execution;
pub mod exit;
mod export;
mod gate;
mod golden;
mod ground;
mod help;
mod init;
mod judge;
mod list;
mod merge;
mod node;
mod ops;
pub mod output;
pub mod overrides;
mod plan;
mod planned;
pub mod policy;
pub mod problems;
mod prompt;
mod replay;
mod rescore;
mod run;
mod schema;
mod scorer;
mod selection;
mod show;
pub mod store;
pub mod style;
mod supervise;
mod until;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

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
    /// Run scenarios, or a campaign
    Run(run::RunArgs),
    /// Write working samples into a folder
    Init(init::InitArgs),
    /// Check files: every problem, with its place
    Check(check::CheckArgs),
    /// Show what a run would do, and do nothing
    Plan(plan::PlanArgs),
    /// Print the JSON Schema of a kind of file
    Schema(schema::SchemaArgs),
    /// Compare runs, campaigns, variants, or with a baseline
    Compare(compare::CompareArgs),
    /// Say whether a campaign may pass, against a baseline
    Gate(gate::GateArgs),
    /// Compare trials with those that are kept as right
    Golden(golden::GoldenArgs),
    /// List what is recorded, the newest first
    List(list::ListArgs),
    /// Show a trial in full; without one the last failure
    Show(show::ShowArgs),
    /// Write a recorded run or trial in a format of others
    Export(export::ExportArgs),
    /// Show a recorded run again, with its exit code
    Replay(replay::ReplayArgs),
    /// Copy recorded runs of other machines into one record
    Merge(merge::MergeArgs),
    /// Judge recorded trials again, by this version or another scoring file
    Rescore(rescore::RescoreArgs),
    /// Ask a model about diagnoses: advice, beside verdicts and scores
    Judge(judge::JudgeArgs),
    /// Tell what this machine can do; clean up after dead runs
    Doctor(doctor::DoctorArgs),
    /// Keep clusters running outside of trials
    Cluster(cluster::ClusterArgs),
    /// See what agents have done
    Ops(ops::OpsArgs),
    /// Keep a cluster, for who started this.
    #[command(hide = true)]
    Keep(cluster::keep::KeepArgs),
    /// Run a stand-in node.
    #[command(hide = true)]
    Node(node::NodeArgs),
    /// Own the network of a node.
    #[command(hide = true)]
    Holder,
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
    if program::is_copy() && std::env::args_os().nth(1).is_none_or(|word| word != "node" && word != "holder") {
        eprintln!("error: this program only runs nodes");
        return Exit::Usage.into();
    }
    let cli = Cli::from_arg_matches(&help::command().get_matches_from(arguments())).unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Golden(args) => golden::run(&args),
        Command::List(args) => list::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Rescore(args) => rescore::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Ops(args) => ops::run(&args),
        Command::Keep(args) => cluster::keep::run(&args),
        Command::Node(args) => node::run(args),
        Command::Holder => Ok(node::hold()),
        Command::Supervise(args) => supervise::run(&args),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => tell(&error).into(),
    }
}

/// The arguments; `chaosrun x.yaml` is `chaosrun run x.yaml`.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let is_file = |word: &OsString| {
        let word = word.to_string_lossy();
        word.ends_with(".yaml") || word.ends_with(".yml")
    };
    if arguments.get(1).is_some_and(is_file) {
        arguments.insert(1, OsString::from("run"));
    }
    arguments
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
