//! `chaosrun cluster ...`: keeps clusters running outside of trials. A file a verb.

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

use super::exit::{Exit, Expected};
use super::output::MessageFormat;
use super::problems;
use super::store::StoreArgs;
use crate::diagnostic::Diagnostic;
use crate::keeper::folder::Folder;
use crate::scenario;

#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster and keep it running
    Up(up::UpArgs),
    /// End a kept cluster
    Down(down::DownArgs),
    /// Show kept clusters, node by node
    Status(status::StatusArgs),
    /// Print what nodes have logged
    Logs(logs::LogsArgs),
    /// Restart nodes, one after the other
    Restart(restart::RestartArgs),
    /// Break a kept cluster by hand, and mend it
    Fault(fault::FaultArgs),
}

/// Which kept cluster is meant.
#[derive(Debug, Args)]
struct Which {
    /// The cluster's file, a scenario's, or the name of a kept cluster
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
    /// The folder it would be kept in.
    fn folder(&self) -> Result<Folder, Box<Diagnostic>> {
        folder(&self.file, &self.store)
    }

    /// What to say when it is not kept.
    fn not_kept(&self) -> Expected {
        not_kept(&self.file.display().to_string())
    }
}

fn folder(file: &Path, store: &StoreArgs) -> Result<Folder, Box<Diagnostic>> {
    let directory = store.directory();
    let by_name = Folder::of(&directory, &file.to_string_lossy());
    let is_word = file.extension().is_none() && file.components().count() == 1 && !file.exists();
    if is_word || by_name.exists() {
        return Ok(by_name);
    }
    Ok(Folder::of(&directory, &scenario::cluster_name(file)?))
}

fn not_kept(file: &str) -> Expected {
    let expected = Expected::new(Exit::NothingSelected, format!("the cluster `{file}` is not kept running"));
    expected.help("`chaosrun cluster up FILE` starts it, `chaosrun cluster status` lists all that are kept")
}

/// The keeper listens no longer, though it lives or had not ended well.
fn died(folder: &Folder) -> Expected {
    let expected = Expected::new(Exit::TrialInvalid, format!("the keeper of `{}` died", folder.name()));
    expected.help(format!("`chaosrun cluster down {}` removes what it left", folder.name()))
}

fn tell_missing(problem: &Diagnostic) -> Exit {
    problems::tell(std::slice::from_ref(problem), MessageFormat::Human)
}

/// Data on stdout. Whoever reads may stop early (`| head`): then false.
fn put(text: &str) -> bool {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
