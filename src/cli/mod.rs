//! Command line: the definition of all arguments, and one module per subcommand.
#![expect(clippy::print_stderr, reason = "only this module and `report` print")]

use chaosrun_node::docker_cli as docker;
mod check;
mod choice;
mod cluster;
mod compare;
mod doctor;
mod early_stopping;
mod execution;
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
mod supervise;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

use crate::exit::{Exit, Expected};

use chaosrun_backend_local::program;
use chaosrun_base::task;

#[derive(Debug, Parser)]
#[command(name = "chaosrun", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios or a campaign
    Run(run::RunArgs),
    /// Create a folder with sample scenarios
    Init(init::InitArgs),
    /// Check files and run the tests of each scenario
    Check(check::CheckArgs),
    /// Show what a run would do, without running it
    Plan(plan::PlanArgs),
    /// Print the JSON Schema of a file type
    Schema(schema::SchemaArgs),
    /// Compare runs, campaigns or variants with each other or a baseline
    Compare(compare::CompareArgs),
    /// Compare a campaign with a baseline and fail on a regression
    Gate(gate::GateArgs),
    /// Compare trials with golden snapshots
    Golden(golden::GoldenArgs),
    /// List recorded trials or runs, newest first
    List(list::ListArgs),
    /// Show one trial in detail; without an argument, the last failure
    Show(show::ShowArgs),
    /// Export a recorded run or trial (ATIF, JSONL)
    Export(export::ExportArgs),
    /// Print the report of a recorded run again and return its exit code
    Replay(replay::ReplayArgs),
    /// Merge the records of several machines into one
    Merge(merge::MergeArgs),
    /// Score recorded trials again, optionally with another scoring file
    Rescore(rescore::RescoreArgs),
    /// Let a model grade diagnoses (advice only; verdicts do not change)
    Judge(judge::JudgeArgs),
    /// Check this machine and clean up after crashed runs
    Doctor(doctor::DoctorArgs),
    /// Start and manage clusters outside of trials
    Cluster(cluster::ClusterArgs),
    /// Inspect the actions of agents
    Ops(ops::OpsArgs),
    /// Run the daemon that `cluster up` starts for a cluster
    #[command(hide = true)]
    Keep(cluster::keep::KeepArgs),
}

/// Processes that a run starts. They are started once per trial, and the command line of users takes longer to build than they
/// take to begin.
#[derive(Debug, Parser)]
#[command(name = "chaosrun", version)]
enum Internal {
    /// Run a stand-in node
    Node(node::NodeArgs),
    /// Hold the network namespace of a node (network sidecar)
    Holder,
    /// Start and supervise the processes of a run
    Supervise(supervise::SuperviseArgs),
}

impl Internal {
    const NAMES: [&str; 3] = ["node", "holder", "supervise"];

    fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Node(args) => node::run(args),
            Self::Holder => Ok(node::hold()),
            Self::Supervise(args) => supervise::run(&args),
        }
    }
}

/// Lets the process end silently when the reader of stdout ends first, as in `chaosrun list | head`. Commands that run processes or write
/// files keep the default of Rust, which is an error of the write.
fn end_with_the_reader(command: &Command) {
    if matches!(
        command,
        Command::Plan(_)
            | Command::Schema(_)
            | Command::Compare(_)
            | Command::List(_)
            | Command::Show(_)
            | Command::Export(_)
            | Command::Ops(_)
    ) {
        // SAFETY: the default action of a signal is no handler that could run at a bad moment.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}

/// Makes all threads share one heap. By default, glibc gives each thread a heap of its own, and memory that one thread frees is not
/// available to others.
fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no other thread exists yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Runs the program with the arguments of the process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    // If the program was started under the name of the docker client, it is only the docker client.
    if docker::is_called(std::env::args_os().next().as_deref()) {
        return docker::main();
    }
    let word = std::env::args_os().nth(1);
    if program::is_copy() && word.as_ref().is_none_or(|word| word != "node" && word != "holder") {
        eprintln!("error: this program only runs nodes");
        return Exit::Usage.into();
    }
    if word.is_some_and(|word| Internal::NAMES.iter().any(|name| word == *name)) {
        task::abort_on_panic();
        return exit_of(Internal::parse().run());
    }
    share_heap();
    let cli = Cli::from_arg_matches(&help::command().get_matches_from(arguments())).unwrap_or_else(|error| error.exit());
    end_with_the_reader(&cli.command);
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
    };
    exit_of(outcome)
}

fn exit_of(outcome: anyhow::Result<Exit>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => tell(&error).into(),
    }
}

/// Returns the arguments of the process. `chaosrun x.yaml` is an abbreviation of `chaosrun run x.yaml`.
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

/// Prints an error, and returns the exit code for this error.
fn tell(error: &anyhow::Error) -> Exit {
    eprintln!("error: {error:#}");
    let Some(expected) = error.downcast_ref::<Expected>() else { return Exit::Bug };
    if let Some(help) = &expected.help {
        eprintln!("  help: {help}");
    }
    expected.exit
}
