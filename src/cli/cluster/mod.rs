//! `chaosrun cluster ...`: keeps clusters running outside of trials. There is one module per subcommand.

mod down;
mod fault;
pub mod keep;
mod logs;
mod restart;
mod status;
mod up;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::output::MessageFormat;
use super::problems;
use super::store::StoreArgs;
use crate::cluster_daemon::folder::ClusterFolder;
use crate::exit::{Exit, Expected};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_scenario as scenario;

#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster and keep it running
    Up(up::UpArgs),
    /// Stop a running cluster
    Down(down::DownArgs),
    /// Show running clusters and their nodes
    Status(status::StatusArgs),
    /// Print the logs of nodes
    Logs(logs::LogsArgs),
    /// Restart nodes, one after the other
    Restart(restart::RestartArgs),
    /// Inject and remove faults manually
    Fault(fault::FaultArgs),
}

/// Selection of a kept cluster.
#[derive(Debug, Args)]
struct Which {
    /// Cluster file, scenario file, or name of a running cluster
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &ClusterArgs) -> anyhow::Result<Exit> {
    match &args.verb {
        Verb::Up(args) => up::run(args),
        Verb::Down(args) => down::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Logs(args) => logs::run(args),
        Verb::Restart(args) => restart::run(args),
        Verb::Fault(args) => fault::run(args),
    }
}

impl Which {
    /// Returns the folder of the cluster that the arguments name.
    fn folder(&self) -> Result<ClusterFolder, Box<Diagnostic>> {
        folder(&self.file, &self.store)
    }

    /// Returns the error that the cluster is not kept running.
    fn not_kept(&self) -> Expected {
        not_kept(&self.file.display().to_string())
    }
}

fn folder(file: &Path, store: &StoreArgs) -> Result<ClusterFolder, Box<Diagnostic>> {
    let directory = store.directory();
    let by_name = ClusterFolder::of(&directory, &file.to_string_lossy());
    let is_word = file.extension().is_none() && file.components().count() == 1 && !file.exists();
    if is_word || by_name.exists() {
        return Ok(by_name);
    }
    Ok(ClusterFolder::of(&directory, &scenario::cluster_name(file)?))
}

fn not_kept(file: &str) -> Expected {
    let expected = Expected::new(Exit::NothingSelected, format!("the cluster `{file}` is not running"));
    expected.help("start it with `chaosrun cluster up FILE`; `chaosrun cluster status` lists the running clusters")
}

/// Returns the error that the daemon of the cluster crashed: it does not listen, and it did not end normally.
fn died(folder: &ClusterFolder) -> Expected {
    let expected = Expected::new(Exit::TrialInvalid, format!("the daemon of the cluster `{}` has crashed", folder.name()));
    expected.help(format!("`chaosrun cluster down {}` removes its resources", folder.name()))
}

fn tell_missing(problem: &Diagnostic) -> Exit {
    problems::tell(std::slice::from_ref(problem), MessageFormat::Human)
}

/// Writes text to stdout. Returns false if the reader of stdout has closed it, as in `| head`.
fn put(text: &str) -> bool {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
