//! `chaosrun ops ...`: what operators do. A file a verb.

mod audit;

use clap::{Args, Subcommand};

use super::exit::Exit;

#[derive(Debug, Args)]
pub struct OpsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What agents have done: every session, step by step
    Audit(audit::AuditArgs),
}

pub fn run(args: &OpsArgs) -> anyhow::Result<Exit> {
    match &args.verb {
        Verb::Audit(args) => audit::run(args),
    }
}
